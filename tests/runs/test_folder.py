"""Run folders: identity, locking, and the content of a complete run."""

import json
import subprocess
import sys

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.errors import RunError
from turnout.runs import RunFolder, inputs, verify
from turnout.runs.inputs import differences
from turnout.runs.json_files import canonical, json_sha256

INPUTS = {"model": {"id": "m", "digest": "a" * 64}, "tasks": {"names": ["x", "y"]}, "limit": None, "scope": "last"}


def changed(**at):
    made = json.loads(json.dumps(INPUTS))
    made.update(at)
    return made


def test_a_new_run(tmp_path):
    path = tmp_path / "some" / "where"
    with RunFolder.open(path, INPUTS) as run:
        assert run.path == path
        assert not run.complete
        assert run.inputs == INPUTS
        stored = json.loads((path / "inputs.json").read_text())
        assert stored["inputs"] == INPUTS
        assert stored["versions"].keys() == {"python", "turnout", "torch", "transformers", "pyarrow"}
        with pytest.raises(RunError, match="expected a complete run, got an unfinished one"):
            _ = run.manifest


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_an_existing_empty_folder_is_accepted(tmp_path, kind):
    with RunFolder.open(kind(tmp_path), INPUTS) as run:
        assert not run.complete


def test_complete_then_opened_again(tmp_path):
    with RunFolder.open(tmp_path / "run", INPUTS) as run:
        run.write_table("t", pa.table({"layer": [3, 3], "gate": [0.1, None]}))
        run.write_json("audit.json", {"schema": 1, "name": "Écologie \udc80", "gini": None})
        run.finish(timings={"capture_seconds": 2.5, "capture_tokens": 100}, seed=3)
        assert run.complete
    before = {f: f.read_bytes() for f in (tmp_path / "run").rglob("*") if f.is_file()}
    with RunFolder.open(tmp_path / "run", INPUTS) as run:
        assert run.complete
        assert run.manifest["timings"] == {"capture_seconds": 2.5, "capture_tokens": 100}
        assert run.manifest["seed"] == 3
        assert run.manifest["inputs"] == INPUTS
        for write in (
            lambda: run.write_table("t", pa.table({})),
            lambda: run.write_json("audit.json", {}),
            lambda: run.trace_writer((), 1),
            run.finish,
        ):
            with pytest.raises(RunError, match="expected an unfinished run, got a complete one"):
                write()
    assert {f: f.read_bytes() for f in (tmp_path / "run").rglob("*") if f.is_file()} == before
    read = RunFolder.read(tmp_path / "run")
    assert read.identity == run.identity
    assert read.read_table("t").to_dict(as_series=False) == {"layer": [3, 3], "gate": [0.1, None]}
    assert read.read_json("audit.json") == {"schema": 1, "name": "Écologie \udc80", "gini": None}
    for missing in (lambda: read.read_table("none"), lambda: read.read_json("none.json")):
        with pytest.raises(RunError, match=r"expected a run with (tables/none.parquet|none.json), got one without"):
            missing()


def test_the_manifest_covers_every_file_but_the_page(tmp_path):
    with RunFolder.open(tmp_path, INPUTS) as run:
        run.write_table("t", pa.table({"a": [1]}))
        run.write_page("<html>")
        run.finish()
        assert list(run.manifest["files"]) == ["inputs.json", "tables/t.parquet"]
    (tmp_path / "report.html").unlink()
    assert verify(tmp_path) == []


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (changed(scope="all"), 'expected scope = "last", as in the run that it contains, got "all"; choose'),
        (
            changed(model={"id": "m", "digest": "b" * 64}),
            r"the model's weights as in the run that it contains \(sha256 a{8}…\), got another \(sha256 b{8}…\);",
        ),
        (changed(model={"id": "m", "digest": "b" * 64}, limit=3), r"expected limit = null, .* got 3 \(and 1 more\)"),
        (changed(verb="mask", limit=3), r"expected verb = nothing, .* got .mask. \(and 1 more\)"),
        (changed(tasks={"names": ["x", "z"]}), r'expected tasks\.names\.1 = "y", .* got "z"'),
        (changed(tasks={"names": ["x"]}), r'expected tasks\.names = \["x","y"\], .* got \["x"\]'),
        (changed(tasks={}), r"expected tasks\.names = .* got nothing"),
        (changed(more=1), r"expected more = nothing, .* got 1"),
        (changed(limit=1, scope="all"), r"expected limit = null, .* got 1 \(and 1 more\)"),
        (changed(limit=False), r"expected limit = null, .* got false"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_another_run_is_refused_and_the_input_named(tmp_path, other, message, finished):
    with RunFolder.open(tmp_path, INPUTS) as run:
        if finished:
            run.finish()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(RunError, match=message):
        RunFolder.open(tmp_path, other)
    assert sorted(tmp_path.iterdir()) == before
    RunFolder.open(tmp_path, dict(reversed(INPUTS.items()))).close()  # the order of keys is no difference


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(json_values, json_values)
def test_differences_are_those_of_canonical_json(a, b):
    assert bool(differences(a, b)) == (canonical(a) != canonical(b))
    assert (json_sha256(a) == json_sha256(b)) == (canonical(a) == canonical(b))


def test_another_version_may_read_but_not_resume(tmp_path, monkeypatch):
    done, half = tmp_path / "done", tmp_path / "half"
    with RunFolder.open(done, INPUTS) as run:
        run.finish()
    RunFolder.open(half, INPUTS).close()
    newer = {**inputs.versions(), "torch": "99.0"}
    monkeypatch.setattr("turnout.runs.folder.versions", lambda: newer)
    with RunFolder.open(done, INPUTS) as run:
        assert run.complete
    with pytest.raises(RunError, match=r'expected versions\.torch = ".*", as in the run that it contains, got "99\.0"'):
        RunFolder.open(half, INPUTS)


def test_a_package_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(inputs, "PACKAGES", ("no-such-package-here",))
    assert inputs.versions()["no-such-package-here"] is None


def test_inputs_must_be_json(tmp_path):
    for bad, kind, message in (
        ({"a": tmp_path}, TypeError, "not JSON serializable"),
        ({"a": float("nan")}, ValueError, "Out of range float values"),
    ):
        with pytest.raises(kind, match=message):
            RunFolder.open(tmp_path / "run", bad)
    assert not list(tmp_path.iterdir())


def test_undefined_figures_are_null_not_nan(tmp_path):
    with RunFolder.open(tmp_path, INPUTS) as run, pytest.raises(ValueError, match="Out of range float values"):
        run.write_json("audit.json", {"gini": float("nan")})
    assert not (tmp_path / "audit.json").exists()


@pytest.mark.parametrize("name", ["thesis.tex", "manifest.json", ".hidden", "trace/part-00000.parquet"])
def test_a_folder_without_a_run_is_not_changed(tmp_path, name):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine")
    with pytest.raises(RunError, match=f"expected a new or empty folder, or a run, got a folder with {name[:5]}"):
        RunFolder.open(tmp_path, INPUTS)
    assert [f for f in tmp_path.rglob("*") if f.is_file()] == [file]
    assert file.read_text() == "mine"


def test_a_file_in_the_place_of_a_folder(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(RunError, match="expected a folder, got a file; choose another path"):
        RunFolder.open(tmp_path / "run", INPUTS)
    with pytest.raises(RunError, match="Not a directory"):
        RunFolder.open(tmp_path / "run" / "deeper", INPUTS)
    assert (tmp_path / "run").read_text() == "mine"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"inputs": 3}', '{"schema": 1, "inputs": {}}', "\0"])
def test_unreadable_inputs(tmp_path, content):
    (tmp_path / "inputs.json").write_text(content)
    with pytest.raises(RunError, match=r"inputs\.json: expected a run's inputs") as refused:
        RunFolder.open(tmp_path, INPUTS)
    assert "\n" not in str(refused.value)


def test_files_of_a_killed_writer_are_removed(tmp_path):
    for folder in (tmp_path, tmp_path / "trace", tmp_path / "tables"):
        folder.mkdir(exist_ok=True)
    (tmp_path / ".inputs.json.tmp-77").write_text("{")
    for folder in ("trace", "tables"):
        (tmp_path / folder).rmdir()
    RunFolder.open(tmp_path, INPUTS).close()
    left = [tmp_path / "trace/.part-00000.parquet.tmp-123", tmp_path / "tables/.t.parquet.tmp-9"]
    kept = [tmp_path / "trace/.part.tmp-x", tmp_path / "notes.tmp-4"]
    for file in left + kept:
        file.parent.mkdir(exist_ok=True)
        file.write_text("half")
    RunFolder.open(tmp_path, INPUTS).close()
    assert not any(file.exists() for file in [*left, tmp_path / ".inputs.json.tmp-77"])
    assert all(file.exists() for file in kept)


HOLDER = """
import sys
from turnout.runs import RunFolder
run = RunFolder.open(sys.argv[1], {"a": 1})
print("held", flush=True)
sys.stdin.read()
"""


def test_two_processes_on_one_folder(tmp_path):
    path = tmp_path / "run"
    command = [sys.executable, "-W", "ignore", "-c", HOLDER, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        left = path / ".x.tmp-1"
        left.write_text("the other's")
        with pytest.raises(RunError, match="expected a free folder, got one in use by another process; wait for it"):
            RunFolder.open(path, {"a": 1})
        assert left.exists()
        other.kill()
    with RunFolder.open(path, {"a": 1}) as run:  # a killed process holds nothing
        assert not run.complete
        with pytest.raises(RunError, match="in use"):
            RunFolder.open(path, {"a": 1})


def test_only_complete_runs_are_read(tmp_path):
    with pytest.raises(RunError, match="expected a run's folder, got no such folder"):
        RunFolder.read(tmp_path / "none")
    with pytest.raises(RunError, match="expected a run's folder, got no run"):
        RunFolder.read(tmp_path)
    RunFolder.open(tmp_path, INPUTS).close()
    with pytest.raises(RunError, match="expected a complete run, got an unfinished one; run the command"):
        RunFolder.read(tmp_path)


def test_tables_are_the_same_bytes(tmp_path):
    whole = pa.table({"layer": list(range(100)), "gate": [i / 7 for i in range(100)], "domain": ["a", "b"] * 50})
    parts = pa.concat_tables([whole.slice(0, 30), whole.slice(30)])
    with RunFolder.open(tmp_path, INPUTS) as run:
        for name, table in (("a", whole), ("b", parts)):
            run.write_table(name, table)
        assert run.read_table("a").equals(run.read_table("b"))
    assert (tmp_path / "tables/a.parquet").read_bytes() == (tmp_path / "tables/b.parquet").read_bytes()
