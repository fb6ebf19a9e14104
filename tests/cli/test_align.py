"""`turnout align` and `turnout merge` as a user runs them, and the page."""

import json

import pytest
from cli.conftest import questions, write_jsonl

from turnout.report import alignment_sentences, render
from turnout.runs import verify


@pytest.fixture
def questions_files(tmp_path):
    """Files for training and evaluation; three questions are in both."""
    rows = questions(6, 6)
    train = write_jsonl(tmp_path / "train.jsonl", rows[3:])
    return train, write_jsonl(
        tmp_path / "test.jsonl", [*rows[:3], *({**r, "question": f" {r['question'].upper()} "} for r in rows[3:6])]
    )


OPTIONS = ("--embedder", "model", "--layers", "last-2", "--epochs", 1, "--k", 1, "--method", "no-success-filter")


def test_align_merge_and_again(turnout, checkpoint, questions_files, tmp_path):
    train, test = questions_files
    words = ("align", checkpoint("olmoe"), "--tasks", train, "--eval", test, "--out", tmp_path / "run", *OPTIONS)
    ran = turnout(*words, "--json")
    assert ran.code == 0, ran.err
    result = ran.json()
    assert result == json.loads((tmp_path / "run" / "align.json").read_text())
    assert result["tasks"]["left_out"]["decontaminated"] == 3
    assert result["config"]["method"] == "no-success-filter"
    assert verify(tmp_path / "run") == []
    shown = turnout(*words)
    assert shown.code == 0
    assert "complete; nothing is computed again" in shown.err
    assert "overall" in shown.out
    assert "Manifold loss of the training questions" in shown.out
    merged = turnout("merge", checkpoint("olmoe"), tmp_path / "run", tmp_path / "merged")
    assert merged.code == 0, merged.err
    assert turnout("audit", tmp_path / "merged", "--tasks", test, "--out", tmp_path / "audit").code == 0
    words_again = ("--adapter", tmp_path / "run", "--out", tmp_path / "further", *OPTIONS)
    further = turnout("align", checkpoint("olmoe"), "--tasks", train, *words_again)
    assert further.code == 0, further.err
    assert turnout("merge", checkpoint("olmoe"), tmp_path / "further", tmp_path / "merged-further").code == 0
    refused = turnout("merge", checkpoint("mixtral"), tmp_path / "run", tmp_path / "other")
    assert refused.code == 1
    assert "the base of this adapter" in refused.err
    assert len(refused.err.strip().splitlines()) == 1
    other = turnout(*words, "--sigma", 0.5)
    assert other.code == 1
    assert "config.manifold.sigma" in other.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--layers", "last-9"), "at most 3, the model's MoE layers, got last-9"),
        (("--tasks", "no-such-file.jsonl"), "no such file"),
        (("--k", 99), "more than k = 99 different questions"),
        (("--embedder", "nothing here"), "minilm, model, or a folder or hub id"),
    ],
)
def test_refused_in_one_line(turnout, checkpoint, questions_files, tmp_path, words, message):
    ran = turnout(
        "align", checkpoint("olmoe"), "--tasks", questions_files[0], "--out", tmp_path / "run", *OPTIONS, *words
    )
    assert ran.code == 1
    assert message in ran.err
    assert len(ran.err.strip().splitlines()) == 1


def test_the_page_contains_the_result_and_escapes_names(turnout, checkpoint, questions_files, tmp_path):
    rows = [json.loads(line) for line in questions_files[1].read_text().splitlines()]
    hostile = write_jsonl(
        tmp_path / "hostile.jsonl", [{**r, "domain": "</script><b>x", "question": f"{r['question']} x"} for r in rows]
    )
    words = (
        "align",
        checkpoint("olmoe"),
        "--tasks",
        questions_files[0],
        "--eval",
        hostile,
        "--out",
        tmp_path / "run",
        *OPTIONS,
    )
    assert turnout(*words).code == 0
    html = (tmp_path / "run" / "report.html").read_text()
    assert html == render(tmp_path / "run")
    assert "<b>x" not in html
    data = json.loads(html.split('id="data"')[1].split(">", 1)[1].split("</script>")[0])
    assert [row["domain"] for row in data["accuracy"]] == ["overall", "</script><b>x"]
    assert len(data["curves"]["loss"]) == len(data["curves"]["step"]) > 0
    assert data["sentences"] == alignment_sentences(json.loads((tmp_path / "run" / "align.json").read_text()))
    assert not (tmp_path / "run" / ".work").exists()


def test_an_adapter_gives_the_same_audit_masking_and_comparison_as_the_merged_model(
    turnout, checkpoint, questions_files, tmp_path
):
    train, test = questions_files
    base, run = checkpoint("olmoe"), tmp_path / "run"
    assert turnout("align", base, "--tasks", train, "--out", run, *OPTIONS, "--learning-rate", 0.05).code == 0
    assert turnout("merge", base, run, tmp_path / "model").code == 0
    audits = {"before": (base,), "adapted": (base, "--adapter", run), "merged": (tmp_path / "model",)}
    for name, words in audits.items():
        ran = turnout("audit", *words, "--tasks", test, "--answers", "--out", tmp_path / name)
        assert ran.code == 0, ran.err
    before, adapted, merged = (json.loads((tmp_path / name / "audit.json").read_text()) for name in audits)
    assert adapted["layers"] == merged["layers"] != before["layers"]
    assert turnout("compare", tmp_path / "before", tmp_path / "adapted", "--json").code == 0
    words = (
        "mask",
        tmp_path / "adapted",
        "--model",
        base,
        "--layers",
        2,
        "--controls",
        3,
        "--out",
        tmp_path / "masked",
    )
    refused = turnout(*words)
    assert refused.code == 1
    assert "the audited weights, digest" in refused.err
    masked = turnout(*words, "--adapter", run)
    assert masked.code == 0, masked.err
    other = turnout("audit", checkpoint("mixtral"), "--adapter", run, "--tasks", test, "--out", tmp_path / "other")
    assert other.code == 1
    assert "the base of this adapter" in other.err
    stored = turnout("audit", tmp_path / "before", "--adapter", run, "--out", tmp_path / "again")
    assert stored.code == 1
    assert "a stored run is measured without its model" in stored.err
