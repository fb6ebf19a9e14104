"""Write errors at any step: one line for the user, and no partly written file."""

import errno
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from runs.routed import LAYERS, table

from turnout.errors import RunError
from turnout.runs import RunFolder, atomic, verify

INPUTS = {"model": "m"}
ROWS = [table(2, first=2 * i) for i in range(2)]
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def work(path):
    with RunFolder.open(path, INPUTS) as run:
        if not run.complete:
            writer = run.trace_writer(LAYERS, len(ROWS), warn=pytest.fail)
            for i in sorted(set(range(len(ROWS))) - writer.done()):
                writer.write(i, ROWS[i])
            run.write_table("t", pa.table({"a": [1.5]}))
            run.write_json("audit.json", {"a": None})
            run.finish(timings={})


def contents(path):
    return {str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*") if f.is_file() and f.name != ".lock"}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    path = tmp_path_factory.mktemp("unbroken") / "run"
    work(path)
    return contents(path)


def break_at(monkeypatch, step, error):
    """Raise `error` at the step-th flush, rename, mkdir or write; a write puts half of its bytes first."""
    count = 0

    def due():
        nonlocal count
        count += 1
        return count == step

    def breaking(real):
        def call(*args, **kwargs):
            if due():
                raise error
            return real(*args, **kwargs)

        return call

    def write(descriptor, data, real=os.write):
        if due():
            real(descriptor, data[: len(data) // 2])
            raise error
        return real(descriptor, data)

    for name in ("fsync", "replace", "mkdir"):
        monkeypatch.setattr(os, name, breaking(getattr(os, name)))
    monkeypatch.setattr(os, "write", write)
    monkeypatch.setattr(atomic.Path, "open", _opening(due, error))


def _opening(due, error, real=Path.open):
    def call(self, mode="r", *args, **kwargs):
        file = real(self, mode, *args, **kwargs)
        if mode != "wb":
            return file
        if due():
            file.close()
            raise error
        return _Breaking(file, due, error)

    return call


class _Breaking(io.BufferedIOBase):
    def __init__(self, file, due, error):
        self.file, self.due, self.error = file, due, error

    def write(self, data):
        if self.due():
            self.file.write(data[: len(data) // 2])
            raise self.error
        return self.file.write(data)

    def flush(self):
        if not self.file.closed:
            self.file.flush()

    def fileno(self):
        return self.file.fileno()

    def close(self):
        self.file.close()


@pytest.mark.parametrize("error", [FULL, KeyboardInterrupt()], ids=repr)
def test_every_step_may_fail(tmp_path, monkeypatch, unbroken, error):
    for step in range(1, 200):
        path = tmp_path / f"{step}" / "run"
        path.parent.mkdir()
        with monkeypatch.context() as patched:
            break_at(patched, step, error)
            try:
                work(path)
                break
            except (RunError, KeyboardInterrupt) as stopped:
                said, kind = str(stopped), type(stopped)
        assert kind is (RunError if isinstance(error, OSError) else KeyboardInterrupt), step
        assert str(getattr(error, "strerror", "")) in said
        assert "\n" not in said
        assert not list(path.rglob(".*.tmp-*")), step
        left = contents(path) if path.exists() else {}
        whole = {name: data for name, data in left.items() if not name.endswith("index.jsonl")}
        assert all(unbroken[name] == data for name, data in whole.items()), step
        index = left.get("trace/index.jsonl", b"")
        assert unbroken["trace/index.jsonl"].startswith(index), step
        assert index[-1:] in (b"", b"\n"), step
        if "inputs.json" not in left:
            assert not path.exists() or not any(p for p in path.iterdir() if p.name != ".lock"), step
        elif "manifest.json" not in left:
            assert [p.file for p in verify(path)] == ["manifest.json"], step
        work(path)
        assert contents(path) == unbroken, step
    assert step > 30


def test_a_full_disk_leaves_no_new_folder(tmp_path, monkeypatch):
    def full(*args):
        raise FULL

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(RunError, match="No space left on device; free some space"):
        RunFolder.open(tmp_path / "a" / "b" / "run", INPUTS)
    assert not list(tmp_path.iterdir())


def test_a_real_write_error(tmp_path):
    """RLIMIT_FSIZE: the kernel itself refuses the bytes past a limit, mid-shard."""
    script = (
        "import resource, signal, sys; from pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
        "from runs.routed import LAYERS, table; from turnout.runs import RunFolder\n"
        "from turnout.errors import RunError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "with RunFolder.open(sys.argv[1], {}) as run:\n"
        "    writer = run.trace_writer(LAYERS, 2)\n"
        "    writer.write(0, table(1))\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "    try: writer.write(1, table(30))\n"
        "    except RunError as error: print(error); raise SystemExit(1)\n"
    )
    path = tmp_path / "run"
    ran = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=False)
    assert ran.returncode == 1, ran.stderr
    assert "part-00001.parquet: expected to write this file, got File too large" in ran.stdout
    assert sorted(f.name for f in (path / "trace").iterdir()) == ["index.jsonl", "meta.json", "part-00000.parquet"]
    assert [problem.file for problem in verify(path)] == ["manifest.json"]


def test_a_disk_that_is_full(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no disk to fill: {mounted.stderr.strip()}")
    try:
        with RunFolder.open(disk / "run", {}) as run:
            writer = run.trace_writer(LAYERS, 2)
            writer.write(0, table(1))
            with pytest.raises(RunError, match="No space left on device; free some space there"):
                writer.write(1, table(60))
            assert writer.done() == {0}
            assert not list(disk.rglob(".*.tmp-*"))
        assert [problem.file for problem in verify(disk / "run")] == ["manifest.json"]
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_folder_that_may_not_be_written(tmp_path):
    """As another user, since root may write anywhere."""
    with RunFolder.open(tmp_path / "done", {}) as run:
        run.finish()
    (tmp_path / "done" / ".lock").unlink()
    for folder in (tmp_path, tmp_path / "done"):
        folder.chmod(0o555)
    try:
        assert _as_nobody(tmp_path, "new").startswith("new: expected to write this file, got Permission denied; choose")
        assert _as_nobody(tmp_path, "done") == "complete"
    finally:
        tmp_path.chmod(0o755)


def _as_nobody(folder, name):
    """Outcome of opening the run `name` in `folder` in a process without rights there."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.chdir(folder)
            if os.getuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            try:
                with RunFolder.open(name, {}) as run:
                    said = "complete" if run.complete else "opened"
            except RunError as error:
                said = str(error)
            os.write(writer, said.encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    with os.fdopen(reader) as file:
        return file.read()


def test_a_keyboard_interrupt_of_a_process(tmp_path):
    """Ctrl-C in a process that writes shards leaves a run that can be verified and resumed."""
    script = (
        "import sys; from pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
        "from runs.routed import LAYERS, table; from turnout.runs import RunFolder\n"
        "rows = table(40)\n"
        "with RunFolder.open(sys.argv[1], {}) as run:\n"
        "    writer = run.trace_writer(LAYERS, 100_000); print(flush=True)\n"
        "    for i in range(100_000): writer.write(i, rows)\n"
    )
    path = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as ran:
        ran.stdout.readline()
        ran.send_signal(signal.SIGINT)
        assert b"KeyboardInterrupt" in ran.communicate(timeout=60)[1]
    assert not list(path.rglob(".*.tmp-*"))
    assert [problem.file for problem in verify(path)] == ["manifest.json"]
