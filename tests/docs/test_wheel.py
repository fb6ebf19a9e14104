"""The wheel works in an environment that never saw the clone."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from docs.blocks import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
DATA = {".css", ".html", ".js", ".json", ".jinja", ".safetensors", ".typed", ".yaml", ".csv", ".txt"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(folder),
        ".",
    ]
    subprocess.run(command, cwd=ROOT, check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a new environment with the wheel; other packages are this one's, without its editable clone."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin/python"
    packages = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], check=True)
    # A plain path line: packages there are importable, .pth files there (the editable install) are not read.
    (packages / "others.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return python


def run(python: Path, folder: Path, *words: str) -> subprocess.CompletedProcess:
    environment = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "PYTHONSAFEPATH", "VIRTUAL_ENV"}}
    command = [str(python.parent / words[0]), *words[1:]]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_wheel_holds_every_file_of_the_package(wheel):
    there = set(zipfile.ZipFile(wheel).namelist())
    source = ROOT / "src"
    tracked = subprocess.run(["git", "ls-files", "src/turnout"], cwd=ROOT, capture_output=True, text=True, check=True)
    files = {str((ROOT / name).relative_to(source)) for name in tracked.stdout.splitlines() if (ROOT / name).exists()}
    assert {Path(name).suffix for name in files} & DATA >= {".css", ".html", ".js", ".json", ".safetensors", ".typed"}
    assert files <= there


def test_turnout_is_that_of_the_wheel(python, tmp_path):
    done = run(python, tmp_path, "python", "-c", "import turnout; print(turnout.__file__)")
    assert str(python.parents[1]) in done.stdout, done.stderr


def test_audit_and_doctor_outside_of_the_clone(python, tmp_path):
    done = run(python, tmp_path, "turnout", "audit", "--limit", "1", "--out", "run")
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "run/report.html").stat().st_size > 1_000_000
    assert (tmp_path / "run/audit.json").exists()
    assert len(list((tmp_path / "run/tables").glob("*.parquet"))) >= 10
    done = run(python, tmp_path, "turnout", "doctor")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "audit" in done.stdout
