"""`turnout mask` as a user runs it."""

import json

import pytest

from turnout.errors import RunError
from turnout.runs import RunFolder, verify


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
    assert turnout("export", out, "--format", "csv", "--out", out.with_name("tables")).code == 0
    dictionary = json.loads((out.with_name("tables") / "columns.json").read_text())["tables"]
    assert {"masking", "effects", "scores_1_00000"} <= dictionary.keys()
    assert all(column["meaning"] for table in dictionary.values() for column in table["columns"])
    shown = turnout(*words)
    assert shown.code == 0
    assert "complete; nothing is computed again" in shown.err
    assert "committee" in shown.out
    assert "logprob" in shown.out
    assert "…" not in shown.out  # every column fits 80 characters
    assert "of equal size and of equal mass" in shown.err


def page_data(run):
    """Figures on the page of a run."""
    page = (run / "report.html").read_text("utf-8")
    return json.loads(page.partition('id="data">')[2].partition("</script>")[0])


def test_the_page_of_the_audit_shows_every_masking_run(turnout, checkpoint, audited, tmp_path):
    assert page_data(audited)["masking"] == []
    words = ("mask", audited, "--model", checkpoint("olmoe"), "--layers", "1", "--controls", 3)
    beside = turnout(*words)
    assert beside.code == 0
    assert f"page: {audited / 'report.html'}" in beside.err
    first = page_data(audited)["masking"]
    assert {(entry["measure"], row["layer"]) for entry in first for row in entry["rows"]} == {
        ("accuracy", "1"),
        ("logprob", "1"),
    }
    assert turnout(*words, "--renormalise", "--out", tmp_path / "elsewhere").code == 0
    both = page_data(audited)["masking"]
    assert [entry["renormalise"] for entry in both] == [False, False, True, True]
    assert both[: len(first)] == first
    assert verify(audited) == []


def test_an_audit_that_cannot_be_written_keeps_its_page(turnout, checkpoint, audited, monkeypatch):
    page = (audited / "report.html").read_bytes()

    def refuse(self, html):
        raise RunError(self.path / "report.html", expected="to write this file", received="Permission denied")

    monkeypatch.setattr(RunFolder, "write_page", refuse)
    ran = turnout("mask", audited, "--model", checkpoint("olmoe"), "--layers", "1", "--controls", 3)
    assert ran.code == 0
    assert "the audit's page stays as it was" in ran.err
    assert (audited / "report.html").read_bytes() == page


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


def test_layers_that_do_not_parse(turnout, audited):
    ran = turnout("mask", audited, "--layers", "a,b")
    assert (ran.code, ran.out) == (2, "")
    assert "expected all, each, or layer numbers such as 3,5, got a,b" in ran.err
