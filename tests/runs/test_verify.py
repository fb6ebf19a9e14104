"""Damage is detected, named and recomputed, and never averaged in."""

import json
import random
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs.routed import LAYERS, table

from turnout.errors import RunError
from turnout.runs import RunFolder, Trace, TraceLayer, TraceWriter, verify

ROWS = [table(3, first=3 * i) for i in range(3)]
SHARD = "trace/part-00001.parquet"


def make(path, inputs, finish=True, parts=ROWS, layers=LAYERS):
    with RunFolder.open(path, inputs) as run:
        writer = run.trace_writer(layers, len(parts))
        for i, part in enumerate(parts):
            writer.write(i, part)
        if finish:
            finished(run)
    return path


def finished(run):
    run.write_table("contribution", pa.table({"layer": [1, 3], "gate": [0.5, 0.25]}))
    run.write_json("audit.json", {"layers": []})
    run.write_page("<html>")
    run.finish(timings={"capture_seconds": 1.0})


@pytest.fixture
def run(tmp_path):
    return make(tmp_path / "run", {"model": "m"})


@pytest.fixture
def unfinished(tmp_path):
    return make(tmp_path / "unfinished", {"model": "m"}, finish=False)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return make(tmp_path_factory.mktemp("sound") / "run", {"model": "m"})


def flip(file, bit):
    data = bytearray(file.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    file.write_bytes(data)


def named(path):
    return {problem.file: problem.received for problem in verify(path)}


def resume(path, parts=ROWS):
    """Resume the run as an audit does; returns the shards that were written and the notes."""
    said, again = [], []
    with RunFolder.open(path, {"model": "m"}) as run:
        writer = run.trace_writer(LAYERS, len(parts), warn=said.append)
        for i in sorted(set(range(len(parts))) - writer.done()):
            writer.write(i, parts[i])
            again.append(i)
        run.trace()
    return again, said


def test_a_sound_run_has_no_problem(run):
    assert verify(run) == []
    with RunFolder.open(run, {"model": "m"}) as folder:
        assert folder.complete
        folder.write_page("<html>another page")
    assert verify(run) == []


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_flipped_bit_is_found(sound, tmp_path_factory, data):
    """In any file of the run, the manifest included."""
    path = tmp_path_factory.mktemp("flipped") / "run"
    shutil.copytree(sound, path)
    files = [f for f in sorted(path.rglob("*")) if f.is_file() and f.name not in (".lock", "report.html")]
    file = data.draw(st.sampled_from(files))
    flip(file, data.draw(st.integers(0, 8 * file.stat().st_size - 1)))
    assert str(file.relative_to(path)) in named(path)


def test_flipped_bits_of_a_shard_are_never_averaged_in(unfinished):
    rng, file = random.Random(1), unfinished / SHARD
    good = file.read_bytes()
    for _ in range(60):
        flip(file, rng.randrange(8 * len(good)))
        with pytest.raises(RunError, match="part-00001"):
            Trace.open(unfinished / "trace")
        assert SHARD in named(unfinished)
        again, said = resume(unfinished)
        assert again == [1]
        assert len(said) == 1
        assert "part-00001.parquet" in said[0]
        assert file.read_bytes() == good
    assert list(named(unfinished)) == ["manifest.json"]


@pytest.mark.parametrize("size", [0, 1, 100])
def test_a_truncated_shard(unfinished, size):
    file = unfinished / SHARD
    file.write_bytes(file.read_bytes()[:size])
    assert "damaged" in named(unfinished)[SHARD]
    assert resume(unfinished)[0] == [1]


def test_a_missing_shard(run, unfinished):
    for path in (run, unfinished):
        (path / SHARD).unlink()
        assert named(path)[SHARD] == "no file (missing)"
        with pytest.raises(RunError, match=r"part-00001.*missing"):
            Trace.open(path / "trace")
    again, said = resume(unfinished)
    assert again == [1]
    assert "missing" in said[0]


@pytest.mark.parametrize("inputs", [{"model": "another"}, {"model": "m", "tasks": "others"}])
def test_a_shard_of_another_run(tmp_path, run, unfinished, inputs):
    """A shard with the same layers and other numbers, which its own bytes do not reveal."""
    other = make(tmp_path / "other", inputs, parts=[table(3, seed=5, first=3 * i) for i in range(3)])
    for path in (run, unfinished):
        shutil.copy(other / SHARD, path / SHARD)
        assert named(path)[SHARD] == "a shard of another run (foreign)"
    assert resume(unfinished)[0] == [1]


def test_a_shard_and_its_index_line_of_another_run(tmp_path, run, unfinished):
    other = make(tmp_path / "other", {"model": "another"})
    for path in (run, unfinished):
        shutil.copy(other / SHARD, path / SHARD)
        shutil.copy(other / "trace/index.jsonl", path / "trace/index.jsonl")
        assert named(path)[SHARD] == "a shard of another run (foreign)"
    again, said = resume(unfinished)
    assert again == [0, 1, 2]
    assert len(said) == 3


def test_the_whole_trace_of_another_run(tmp_path, run, unfinished):
    other = make(tmp_path / "other", {"model": "another"})
    for path in (run, unfinished):
        shutil.rmtree(path / "trace")
        shutil.copytree(other / "trace", path / "trace")
        assert "foreign" in named(path)["trace/meta.json"]
    with pytest.raises(RunError, match="expected the trace of run"):
        RunFolder.read(run).trace()
    with pytest.raises(RunError, match="choose another folder"):
        resume(unfinished)


def test_shards_swapped(unfinished):
    first, second = unfinished / "trace/part-00000.parquet", unfinished / SHARD
    a, b = first.read_bytes(), second.read_bytes()
    first.write_bytes(b)
    second.write_bytes(a)
    assert named(unfinished)[SHARD] == "shard 0 of this run (misplaced)"
    assert resume(unfinished)[0] == [0, 1]
    assert (first.read_bytes(), second.read_bytes()) == (a, b)


def test_a_shard_of_other_layers(unfinished):
    """A shard with the id of this run and the columns of another."""
    file = unfinished / SHARD
    mark = pq.read_schema(file).metadata
    pq.write_table(table(3, layers=(TraceLayer(1, 7, 2),)).replace_schema_metadata(mark), file)
    assert named(unfinished)[SHARD] == "a shard of other layers (foreign)"


@pytest.mark.parametrize("tail", [b"", b'{"shard": 2, "file": "part-000', b'{"shard": 2}\n', b"\xff\xfe\n", b"null\n"])
def test_a_truncated_index_is_repaired(unfinished, tail):
    index = unfinished / "trace/index.jsonl"
    lines = index.read_bytes().splitlines(keepends=True)
    index.write_bytes(b"".join(lines[:2]) + (tail or lines[2][:-1]))  # torn within, or just before its line's end
    again, said = resume(unfinished)
    assert again == [2]
    assert said == []
    assert index.read_bytes() == b"".join(lines)


def test_an_index_that_points_elsewhere(unfinished):
    index = unfinished / "trace/index.jsonl"
    entry = json.loads(index.read_text().splitlines()[0])
    with index.open("a") as file:
        file.write(json.dumps({**entry, "shard": 9, "file": "../inputs.json"}) + "\n")
    assert "the number 9" in named(unfinished)["trace/../inputs.json"]
    assert resume(unfinished)[0] == []
    assert list(named(unfinished)) == ["manifest.json"]


def test_a_damaged_meta_is_written_again(unfinished):
    meta = unfinished / "trace/meta.json"
    good = meta.read_bytes()
    for bad in (b"", b"{}", b"[1]", good[:-9], b'{"run": "", "n_shards": "x", "layers": []}', b'{"layers": [1]}'):
        meta.write_bytes(bad)
        assert "trace/meta.json" in named(unfinished)
        with pytest.raises(RunError, match=r"meta\.json"):
            Trace.open(unfinished / "trace")
        again, said = resume(unfinished)
        assert again == []
        assert "meta.json" in said[0]
        assert meta.read_bytes() == good


def test_unknown_files_are_named(run, unfinished):
    for path in (run, unfinished):
        for name in ("trace/part-00007.parquet", "trace/notes.txt", "trace/.DS_Store", "trace/.part-1.tmp-12"):
            (path / name).write_text("x")
        (path / "trace/folder").mkdir()
    expected = {"trace/part-00007.parquet", "trace/notes.txt", "trace/folder"}
    assert named(unfinished).keys() == expected | {"manifest.json"}
    assert named(run).keys() == expected | {"trace/.part-1.tmp-12"}


def test_a_stray_table_and_a_missing_one(run):
    (run / "tables/contribution.parquet").rename(run / "tables/more.parquet")
    assert named(run) == {
        "tables/contribution.parquet": "no file (missing)",
        "tables/more.parquet": "a stray one",
    }


def test_a_damaged_table_is_not_read(run):
    flip(run / "tables/contribution.parquet", 80)
    flip(run / "audit.json", 80)
    assert named(run).keys() == {"tables/contribution.parquet", "audit.json"}
    with pytest.raises(RunError, match=r"contribution\.parquet: expected sha256 .* got other bytes \(damaged\)"):
        RunFolder.read(run).read_table("contribution")
    with pytest.raises(RunError, match=r"audit\.json.*damaged"):
        RunFolder.read(run).read_json("audit.json")


def test_an_unfinished_run_is_named_so(unfinished):
    (problem,) = verify(unfinished)
    assert str(problem) == "manifest.json: expected a complete run's manifest, got none: the run is unfinished"


def test_an_index_short_of_a_shard(run):
    index = run / "trace/index.jsonl"
    index.write_bytes(b"".join(index.read_bytes().splitlines(keepends=True)[:2]))
    assert named(run) == {"trace/part-00002.parquet": "none", "trace/index.jsonl": "other bytes (damaged)"}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"files": {}}', '{"files": 3, "sha256": ""}'])
def test_an_unreadable_manifest(run, content):
    (run / "manifest.json").write_text(content)
    assert named(run).keys() == {"manifest.json"}
    for opened in (lambda: RunFolder.read(run), lambda: RunFolder.open(run, {"model": "m"})):
        with pytest.raises(RunError, match=r"manifest\.json.*; remove manifest\.json and run the command"):
            opened()
    (run / "manifest.json").unlink()
    assert resume(run) == ([], [])


def test_a_damaged_complete_run_is_repaired_as_its_error_states(run):
    before = {name: (run / name).read_bytes() for name in (SHARD, "tables/contribution.parquet")}
    flip(run / SHARD, 1000)
    (run / "manifest.json").unlink()
    assert resume(run)[0] == [1]
    assert {name: (run / name).read_bytes() for name in before} == before


FILES = ("audit.json", "tables/contribution.parquet", "trace/meta.json", "trace/index.jsonl", SHARD)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["flip", "remove"])
def test_a_run_damaged_after_it_was_complete_is_not_called_complete(run, name, damage):
    before = {f: (run / f).read_bytes() for f in FILES if f != "trace/index.jsonl"}  # the index holds times
    flip(run / name, 30) if damage == "flip" else (run / name).unlink()
    do = "remove it and manifest.json, then run" if damage == "flip" else "remove manifest.json and run"
    with pytest.raises(RunError, match=f"/{name}: .*(damaged|no file).*; {do} the command that made this run again"):
        RunFolder.open(run, {"model": "m"})
    for mended in (name, "manifest.json"):
        (run / mended).unlink(missing_ok=True)
    resume(run)
    with RunFolder.open(run, {"model": "m"}) as folder:
        finished(folder)
    assert verify(run) == []
    assert {f: (run / f).read_bytes() for f in before} == before


@pytest.mark.parametrize("content", [None, "{}", '{"schema": 1, "inputs": {"model": "x"}, "versions": {}}'])
def test_damaged_inputs_are_no_other_run(run, content):
    good = (run / "inputs.json").read_bytes()
    (run / "inputs.json").write_text(content) if content else flip(run / "inputs.json", 3)
    with pytest.raises(RunError, match=r"inputs\.json: .*; restore it from a copy, or repeat the run in another fol"):
        RunFolder.open(run, {"model": "m"})
    (run / "inputs.json").write_bytes(good)
    RunFolder.open(run, {"model": "m"}).close()


def test_no_run_there(tmp_path):
    for path, received in ((tmp_path, "no run"), (tmp_path / "none", "no such folder")):
        with pytest.raises(RunError, match=f"expected a run's folder, got {received}"):
            verify(path)


def test_damage_between_writing_and_finishing(tmp_path):
    with RunFolder.open(tmp_path / "run", {}) as run:
        writer = run.trace_writer(LAYERS, 2)
        writer.write(0, ROWS[0])
        with pytest.raises(RunError, match="expected 2 finished shards, got 1"):
            run.finish()
        writer.write(1, ROWS[1])
        flip(run.path / SHARD, 99)
        with pytest.raises(RunError, match=r"part-00001\.parquet: expected the shard as written"):
            run.finish()
        assert not run.complete


def test_a_writer_warns_of_damage_by_default(tmp_path):
    TraceWriter(tmp_path, LAYERS, 1).write(0, ROWS[0])
    flip(tmp_path / "part-00000.parquet", 500)
    with pytest.warns(UserWarning, match=r"part-00000\.parquet.*will be computed again"):
        assert TraceWriter(tmp_path, LAYERS, 1).done() == set()


def test_a_rewritten_shard_replaces_its_line(tmp_path):
    writer = TraceWriter(tmp_path, LAYERS, 2)
    for i in (0, 1, 0):
        writer.write(i, ROWS[i])
    assert [json.loads(line)["shard"] for line in (tmp_path / "index.jsonl").read_text().splitlines()] == [1, 0]
    assert np.isfinite(Trace.open(tmp_path).scores(1)).all()
