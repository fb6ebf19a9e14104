"""`turnout coupling` as a user runs it."""

import json

import pytest

from turnout.runs import verify


def test_measure_again_verify_and_report(turnout, checkpoint, tmp_path):
    words = ("coupling", checkpoint("olmoe"), "--out", tmp_path / "run", "--alphas", "1,2.5")
    ran = turnout(*words, "--json")
    assert ran.code == 0, ran.err
    assert ran.json() == json.loads((tmp_path / "run" / "coupling.json").read_text())
    assert [loss["alpha"] for loss in ran.json()["layers"][0]["raw"]["loss"]] == [1, 2.5]
    assert ran.json()["tasks"] is None
    page = (tmp_path / "run" / "report.html").read_bytes()
    shown = turnout(*words)
    assert shown.code == 0
    assert "complete; nothing is computed again" in shown.err
    assert "random" in shown.out
    assert "L 2.5" in shown.out
    assert "ERC loss at α = 1" in shown.out
    assert turnout("verify", tmp_path / "run").code == 0
    (tmp_path / "run" / "report.html").unlink()
    assert turnout("report", tmp_path / "run").code == 0
    assert (tmp_path / "run" / "report.html").read_bytes() == page
    assert verify(tmp_path / "run") == []
    damaged = tmp_path / "run" / "tables" / "experts.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    again = turnout("report", tmp_path / "run")
    assert again.code == 1
    assert "experts.parquet" in again.err


def test_real_tokens(turnout, checkpoint, tasks, tmp_path):
    words = ("coupling", checkpoint("olmoe"), "--tasks", tasks, "--limit", 1, "--scope", "last")
    ran = turnout(*words, "--out", tmp_path / "run", "--json")
    assert ran.code == 0, ran.err
    content = ran.json()
    assert content["tasks"]["questions"] == 4
    assert content["layers"][0]["tokens"]["tokens"] == 4
    shown = turnout(*words, "--out", tmp_path / "run")
    assert "tasks.jsonl, last tokens" in shown.out
    assert "On 4 tokens of 4 samples" in shown.out


def test_the_default_folder_is_named_by_model_and_tasks(turnout, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert turnout("coupling", checkpoint("mixtral")).code == 0
    assert (tmp_path / "runs" / f"{checkpoint('mixtral').name}-coupling" / "coupling.json").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("llama",), 1, "turnout: "),
        (("olmoe", "--alphas", "one"), 2, "expected numbers such as 1,2,3, got one"),
        (("olmoe", "--alphas", "-1"), 1, "alphas: expected different finite numbers of 0 or more"),
        (("olmoe", "--tasks", "nowhere.jsonl"), 1, "nowhere.jsonl: expected one of"),
    ],
    ids=["dense", "no number", "negative", "no tasks"],
)
def test_bad_input(turnout, checkpoint, tmp_path, words, code, message):
    ran = turnout("coupling", checkpoint(words[0]), *words[1:], "--out", tmp_path / "run")
    assert ran.code == code
    assert message in ran.err
    assert "Traceback" not in ran.err
    if code == 1:
        assert len(ran.err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_paper_figures_need_an_audit(turnout, checkpoint, tmp_path):
    assert turnout("coupling", checkpoint("olmoe"), "--out", tmp_path / "run").code == 0
    ran = turnout("report", tmp_path / "run", "--figures", tmp_path / "figures")
    assert ran.code == 1
    assert "expected an audit" in ran.err
    assert "coupling" in ran.err
