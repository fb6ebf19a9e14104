"""`turnout plan`: tables, one JSON object, the same folder again, and one line for bad values."""

import json

import pytest

BUDGET = ("plan", "--active", "170M", "--tokens", "125B", "--width", "512", "--top-k", "2")


def test_tables_and_recommendation(turnout):
    ran = turnout(*BUDGET, "--memory", "10GB")
    assert ran.code == 0
    assert "→ d512-L16-E128-k2" in ran.out
    assert "For reasoning: d512-L16-E128-k2 trains on 37.4 tokens per total parameter" in ran.out
    assert "For recall: d512-L16-E128-k2 has 3.34B parameters, the most that fit into 10 GB" in ran.out
    assert "Left out: 1 that need more than 10 GB for inference." in ran.out
    assert "Losses of different laws cannot be compared." in ran.out
    assert ran.err == ""


def test_json_is_the_stored_plan_and_the_same_folder_is_accepted(turnout, tmp_path):
    first = turnout(*BUDGET, "--goal", "reason", "--json", "--out", tmp_path / "plan")
    assert first.code == 0
    assert first.json() == json.loads((tmp_path / "plan" / "plan.json").read_text())
    page = (tmp_path / "plan" / "report.html").read_bytes()
    again = turnout(*BUDGET, "--goal", "reason", "--json", "--out", tmp_path / "plan")
    assert (again.code, again.json()) == (0, first.json())
    assert "nothing is computed again" in again.err
    assert (tmp_path / "plan" / "report.html").read_bytes() == page
    other = turnout(*BUDGET, "--goal", "both", "--out", tmp_path / "plan")
    assert other.code == 1
    assert "goal" in other.err
    assert turnout("verify", tmp_path / "plan").code == 0
    assert turnout("report", tmp_path / "plan").code == 0
    assert (tmp_path / "plan" / "report.html").read_bytes() == page


def test_a_model_by_name(turnout):
    ran = turnout("plan", "--of", "llm-jp/optimal-sparsity-math-d512-E8-k2-320M-A170M", "--tokens", "125B")
    assert ran.code == 0
    assert "320,160,256" in ran.out
    assert "169,165,312" in ran.out
    assert "390.4" in ran.out
    assert "The laws need --tokens." in turnout("plan", "--of", "llm-jp/optimal-sparsity-math-d512-E8-k2").out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "active: expected a value such as 1.3B, got none"),
        (("--active", "1.3B"), "tokens: expected a value such as 5T, got none"),
        (
            ("--active", "much", "--tokens", "5T"),
            "active: expected a number above 0 such as 170M",
        ),
        (("--active", "1B", "--tokens", "5T", "--top-k", "16", "--experts", "8"), "got 16 chosen of 8"),
        (("--active", "2K", "--tokens", "5T"), "as the nearest; give other --width"),
        (("--active", "1B", "--tokens", "5T", "--memory", "1MB"), "fits into 1 MB for inference"),
        (("--of", "OLMoE", "--goal", "reason"), "goal: expected tokens or context beside a model"),
        (("--of", "nothing here"), "expected a folder, or a hub id"),
    ],
)
def test_errors_are_one_line(turnout, words, message):
    ran = turnout("plan", *words)
    assert ran.code == 1
    assert ran.out == ""
    assert message in ran.err
    assert ran.err.count("\n") == 1


def test_goals(turnout):
    assert turnout(*BUDGET, "--goal", "win").code == 2
    plans = [turnout(*BUDGET, "--goal", goal, "--json") for goal in ("memorize", "memorise")]
    assert plans[0].json() == plans[1].json()
    assert plans[0].json()["question"]["goal"] == "memorize"
    assert plans[1].err == ""
