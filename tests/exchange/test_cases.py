"""Small recordings that were once read silently wrong, with the right value or the right refusal."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest

import turnout
from turnout.errors import RunError
from turnout.runs import RunFolder

CASES = Path(__file__).parents[1] / "fixtures" / "cases"


def rows(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def subjects(run):
    return dict(RunFolder.read(run).trace().samples().select("id", "subject").iter_rows())


def experts(n, layers=2, k=2):
    """[n, layers, k] distinct experts below 16, another row for each token."""
    return [[[(t + layer) % 16, (t + layer + 5) % 16][:k] for layer in range(layers)] for t in range(n)]


def test_rows_that_do_not_add_up_are_refused(tmp_path):
    file = CASES / "prefix_omitted/routed.jsonl"
    with pytest.raises(RunError, match=r"expected 29 rows \(prompt 10 \+ completion 20 - 1 - start 0\), got 23; give"):
        turnout.import_routed(file, tmp_path / "run", experts=16, shape="2x2")
    assert not (tmp_path / "run").exists()


def test_a_left_out_prefix_is_placed_by_its_start(tmp_path):
    record = json.loads((CASES / "prefix_omitted/routed.jsonl").read_text())
    record["meta_info"]["start"] = 6
    file = rows(tmp_path / "routed.jsonl", record)
    turnout.import_routed(file, tmp_path / "run", experts=16, shape="2x2", prompt_only=True)
    chosen, offsets = RunFolder.read(tmp_path / "run").trace().chosen(0)
    stored = np.frombuffer(base64.b64decode(record["meta_info"]["routed_experts"]), "<i4").reshape(-1, 2, 2)
    assert offsets.tolist() == [0, 4]  # of 10 prompt tokens the first 6 have no row
    assert chosen.tolist() == stored[:4, 0].tolist()


def test_token_ids_start_where_the_rows_do(tmp_path):
    record = {"id": "a", "prompt_tokens": 4, "completion_tokens": 3, "start": 2, "tokens": list(range(100, 107))}
    file = rows(tmp_path / "routed.jsonl", {**record, "routed_experts": experts(4)})
    imported = turnout.import_routed(file, tmp_path / "run", experts=16)
    assert RunFolder.read(tmp_path / "run").trace().tokens()[0].tolist() == [102, 103, 104, 105]
    assert (imported.tokens, imported.left_out) == (4, 1)


def test_partial_ids_never_fall_back_to_order(tmp_path):
    folder = CASES / "join_partial_ids"
    with pytest.raises(RunError, match=r"line 3 of .*samples.jsonl: expected an id, as other rows have, got none"):
        turnout.import_routed(folder / "routed.jsonl", tmp_path / "run", experts=16, samples=folder / "samples.jsonl")


def test_ids_are_matched_whatever_the_order(tmp_path):
    folder = CASES / "join_partial_ids"
    named = [{"id": "b", "subject": "virology"}, {"id": "a", "subject": "anatomy"}, {"id": "c", "subject": "astronomy"}]
    samples = rows(tmp_path / "samples.jsonl", *named)
    turnout.import_routed(folder / "routed.jsonl", tmp_path / "run", experts=16, samples=samples)
    assert subjects(tmp_path / "run") == {"a": "anatomy", "b": "virology", "c": "astronomy"}


def test_a_recording_without_id_among_others_is_refused(tmp_path):
    file = rows(tmp_path / "r.jsonl", {"id": "a", "routed_experts": experts(3)}, {"routed_experts": experts(3)})
    samples = rows(tmp_path / "s.jsonl", {"id": "a", "subject": "anatomy"}, {"id": "b", "subject": "virology"})
    with pytest.raises(RunError, match=r"line 2 of .*: expected an id in every sample, or in none"):
        turnout.import_routed(file, tmp_path / "run", experts=16, samples=samples)


def test_no_ids_anywhere_are_matched_by_order(tmp_path):
    file = rows(tmp_path / "r.jsonl", {"routed_experts": experts(3)}, {"routed_experts": experts(2)})
    samples = rows(tmp_path / "s.jsonl", {"subject": "anatomy"}, {"subject": "virology"})
    turnout.import_routed(file, tmp_path / "run", experts=16, samples=samples)
    assert subjects(tmp_path / "run") == {"0": "anatomy", "1": "virology"}


def test_null_never_erases_a_value(tmp_path):
    folder = CASES / "null_masks_subject"
    options = {"experts": 16, "samples": folder / "samples.jsonl", "prompt_only": True}
    turnout.import_routed(folder / "routed.jsonl", tmp_path / "run", **options)
    assert subjects(tmp_path / "run") == {"a": "anatomy", "b": "anatomy"}


def test_a_byte_order_mark_is_no_text(tmp_path):
    plain = rows(tmp_path / "r.jsonl", {"id": "a", "subject": "anatomy", "routed_experts": experts(3)})
    marked = tmp_path / "marked.jsonl"
    marked.write_bytes(b"\xef\xbb\xbf" + plain.read_bytes())
    for file in (plain, marked):
        turnout.import_routed(file, tmp_path / file.stem, experts=16, model="m")
    assert subjects(tmp_path / "marked") == subjects(tmp_path / "r") == {"a": "anatomy"}
