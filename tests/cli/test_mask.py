"""`turnout mask` as a user runs it."""

import json

import pytest

from turnout.runs import verify


@pytest.fixture
def audited(turnout, checkpoint, tasks, tmp_path):
    assert turnout("audit", checkpoint("olmoe"), "--tasks", tasks, "--out", tmp_path / "run").code == 0
    return tmp_path / "run"


def test_mask_and_again(turnout, checkpoint, audited):
    words = ("mask", audited, "--model", checkpoint("olmoe"), "--layers", "1", "--controls", 3)
    ran = turnout(*words, "--json")
    assert ran.code == 0, ran.err
    assert "sets in layer 1" in ran.err
    out = audited.with_name("run-mask-committee-1")
    assert ran.json() == json.loads((out / "masking.json").read_text())
    assert verify(out) == []
    shown = turnout(*words)
    assert shown.code == 0
    assert "complete; nothing is computed again" in shown.err
    assert "committee" in shown.out
    assert "logprob" in shown.out


def test_dry_run(turnout, audited):
    ran = turnout("mask", audited, "--dry-run", "--layers", "each", "--json")
    assert ran.code == 0
    assert ran.json()["sets"].keys() == {"0", "1", "2", "all"}
    assert ran.json()["seconds"] > 0
    assert not list(audited.parent.glob("*mask*"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "name the audited checkpoint with --model"),
        (("--layers", "a,b"), "all, each, or layer numbers such as 3,5"),
        (("--layers", "9"), "MoE layers of [0, 1, 2], got 9"),
    ],
)
def test_refused_in_one_line(turnout, checkpoint, audited, words, says):
    model = ("--model", checkpoint("olmoe")) if words else ()
    ran = turnout("mask", audited, *model, *words)
    assert ran.code == 1
    assert says in ran.err
    assert len(ran.err.strip().splitlines()) == 1
    assert not list(audited.parent.glob("*mask*"))


def test_another_model_is_refused(turnout, checkpoint, audited):
    ran = turnout("mask", audited, "--model", checkpoint("mixtral"))
    assert ran.code == 1
    assert "the audited weights" in ran.err
