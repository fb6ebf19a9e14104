"""`turnout audit` end to end on tiny random checkpoints."""

import json
import shutil
import signal
import subprocess
import sys
import time

import polars as pl
import pytest
from cli.conftest import questions, write_jsonl
from tiny import tiny_model

FAMILIES = ["olmoe", "qwen2_moe", "qwen3_moe", "deepseek_v2", "mixtral", "gpt_oss"]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_from_folder_to_page(turnout, checkpoint, tasks, tmp_path, family):
    ran = turnout("audit", checkpoint(family), "--tasks", tasks, "--out", tmp_path / "run", "--json")
    assert ran.code == 0, ran.err
    audit = ran.json()
    assert audit == json.loads((tmp_path / "run/audit.json").read_text())
    assert audit["schema"] == 1
    assert (audit["kind"], audit["scope"]) == ("gate", "last")
    for layer in audit["layers"]:
        assert layer["committee"]
        assert 0 < layer["coverage"] <= 1
    assert (tmp_path / "run/report.html").stat().st_size > 10_000
    table = pl.read_parquet(tmp_path / "run/tables/contribution.parquet")
    assert table.columns[:7] == ["layer", "domain", "expert", "gate", "frequency", "weight", "released"]
    for (layer, _), rows in table.group_by("layer", "domain"):
        top_k = next(entry["top_k"] for entry in audit["layers"] if entry["layer"] == layer)
        assert rows["gate"].sum() == pytest.approx(1, abs=1e-5)
        assert rows["frequency"].sum() == pytest.approx(top_k, abs=1e-5)


def test_dense_first_layer_keeps_its_number(turnout, checkpoint, tasks, tmp_path):
    audit = turnout("audit", checkpoint("deepseek_v2"), "--tasks", tasks, "--out", tmp_path / "run", "--json").json()
    assert [layer["layer"] for layer in audit["layers"]] == [1, 2]
    assert {layer["shared"] for layer in audit["layers"]} == {2}


def test_without_json_a_summary_and_the_page_path_are_printed(turnout, checkpoint, tasks, tmp_path):
    ran = turnout("audit", checkpoint("olmoe"), "--tasks", tasks, "--out", tmp_path / "run")
    assert ran.code == 0
    assert "layer" in ran.out.lower()
    assert "report.html" in ran.err


def test_answers_add_an_accuracy(turnout, checkpoint, tasks, tmp_path):
    audit = turnout(
        "audit", checkpoint("olmoe"), "--tasks", tasks, "--answers", "--out", tmp_path / "run", "--json"
    ).json()
    assert 0 <= audit["accuracy"]["overall"]["accuracy"] <= 1


@pytest.mark.parametrize("scope", ["last", "all"])
@pytest.mark.parametrize("kind", ["gate", "frequency", "weight", "released"])
def test_measured_again_from_the_trace_without_the_model(turnout, checkpoint, tasks, tmp_path, scope, kind):
    gone = shutil.copytree(checkpoint("olmoe"), tmp_path / "model")
    options = ["--scope", scope, "--kind", kind]
    direct = turnout("audit", gone, "--tasks", tasks, "--out", tmp_path / "direct", "--json", *options).json()
    turnout("audit", gone, "--tasks", tasks, "--out", tmp_path / "run")
    shutil.rmtree(gone)
    again = turnout("audit", tmp_path / "run", "--out", tmp_path / "again", "--json", *options)
    assert again.code == 0, again.err
    assert again.json()["layers"] == direct["layers"]


def test_the_same_command_on_its_own_folder_recomputes_nothing(turnout, checkpoint, tasks, tmp_path):
    words = ("audit", checkpoint("olmoe"), "--tasks", tasks, "--out", tmp_path / "run", "--json")
    first = turnout(*words)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.parquet")}
    second = turnout(*words)
    assert (second.code, second.out) == (0, first.out)
    assert "complete" in second.err
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.parquet")} == before


def test_twice_the_same_bytes(turnout, checkpoint, tasks, tmp_path):
    for name in ("a", "b"):
        turnout("audit", checkpoint("olmoe"), "--tasks", tasks, "--out", tmp_path / name)
    for path in (tmp_path / "a/tables").iterdir():
        assert path.read_bytes() == (tmp_path / "b/tables" / path.name).read_bytes(), path.name
    assert (tmp_path / "a/audit.json").read_bytes() == (tmp_path / "b/audit.json").read_bytes()


def test_a_domain_of_one_question_is_no_error(turnout, checkpoint, tmp_path):
    rows = [*questions(), questions()[0] | {"domain": "alone", "subject": "alone", "question": "Why?"}]
    tasks = write_jsonl(tmp_path / "tasks.jsonl", rows)
    ran = turnout("audit", checkpoint("olmoe"), "--tasks", tasks, "--out", tmp_path / "run", "--json")
    assert ran.code == 0, ran.err
    assert ran.json()["tasks"]["one_sample_domains"] == ["alone"]
    assert ran.json()["layers"][0]["specificity"]["alone"] == 0


def test_text_of_one_domain_has_every_measure_but_jaccard(turnout, checkpoint, tmp_path):
    tasks = write_jsonl(tmp_path / "text.jsonl", [{"text": f"Line {i} of a page.", "domain": "page"} for i in range(5)])
    ran = turnout("audit", checkpoint("olmoe"), "--tasks", tasks, "--out", tmp_path / "run", "--json")
    assert ran.code == 0, ran.err
    layer = ran.json()["layers"][0]
    assert layer["jaccard_mean"] is None
    assert layer["coverage"] > 0


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_verify_names_a_damaged_shard(turnout, checkpoint, tasks, tmp_path, damage):
    turnout("audit", checkpoint("olmoe"), "--tasks", tasks, "--out", tmp_path / "run")
    assert turnout("verify", tmp_path / "run").code == 0
    shard = tmp_path / "run/trace/part-00000.parquet"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "remove":
        shard.unlink()
    else:
        shard.write_bytes(content if damage == "flip" else content[: len(content) // 2])
    ran = turnout("verify", tmp_path / "run", "--json")
    assert ran.code == 1
    assert any("part-00000.parquet" in problem for problem in ran.json()["problems"])


def test_a_damaged_complete_run_is_repaired_by_the_command_in_its_error(turnout, checkpoint, tasks, tmp_path):
    words = ("audit", checkpoint("olmoe"), "--tasks", tasks, "--out", tmp_path / "run")
    turnout(*words)
    table = tmp_path / "run/tables/ranks.parquet"
    sound = {path: path.read_bytes() for path in (table, tmp_path / "run/audit.json")}
    table.write_bytes(sound[table][:-1])
    ran = turnout(*words)
    assert (ran.code, ran.out) == (1, "")
    assert "ranks.parquet: expected sha256" in ran.err
    assert "remove it and manifest.json, then run the command" in ran.err
    table.unlink()
    (tmp_path / "run/manifest.json").unlink()
    assert turnout(*words).code == 0
    assert {path: path.read_bytes() for path in sound} == sound
    assert turnout("verify", tmp_path / "run").code == 0


def test_verify_explains_why_the_page_is_not_covered(turnout, checkpoint, tasks, tmp_path):
    turnout("audit", checkpoint("olmoe"), "--tasks", tasks, "--out", tmp_path / "run")
    (tmp_path / "run/report.html").write_text("other")
    ran = turnout("verify", tmp_path / "run", "--json")
    assert (ran.code, ran.json()["sound"], list(ran.json()["not_covered"])) == (0, True, ["report.html"])
    ran = turnout("verify", tmp_path / "run")
    assert "report.html is not covered" in ran.err
    assert "turnout report" in ran.err
    (tmp_path / "run/report.html").unlink()
    assert turnout("verify", tmp_path / "run", "--json").json()["not_covered"] == {}
    assert "report.html" not in turnout("verify", tmp_path / "run").err


def test_the_page_is_redrawn_without_the_model(turnout, checkpoint, tasks, tmp_path):
    turnout("audit", checkpoint("olmoe"), "--tasks", tasks, "--out", tmp_path / "run")
    page = tmp_path / "run/report.html"
    before = page.read_bytes()
    page.unlink()
    assert turnout("report", tmp_path / "run").code == 0
    assert page.read_bytes() == before
    assert turnout("verify", tmp_path / "run").code == 0


def test_compare_shows_runs_side_by_side(turnout, checkpoint, tasks, tmp_path):
    for family in ("olmoe", "qwen3_moe"):
        turnout("audit", checkpoint(family), "--tasks", tasks, "--out", tmp_path / family)
    ran = turnout("compare", tmp_path / "olmoe", tmp_path / "qwen3_moe", "--json")
    assert ran.code == 0, ran.err
    assert len(ran.json()["runs"]) == 2


@pytest.mark.slow
def test_killed_anywhere_it_resumes_to_the_same_tables(turnout, turnout_process, tmp_path):
    model = tiny_model("olmoe", tmp_path / "model", hidden_size=64)
    tasks = write_jsonl(tmp_path / "tasks.jsonl", questions(12, 20))
    words = ["audit", model, "--tasks", tasks, "--token-budget", "64"]
    turnout(*words, "--out", tmp_path / "whole")
    command = [sys.executable, "-m", "turnout", *map(str, words), "--out", str(tmp_path / "killed")]
    for shards in (1, 5):  # killed while the trace grows
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        index = tmp_path / "killed/trace/index.jsonl"
        while process.poll() is None and not (index.exists() and len(index.read_text().splitlines()) >= shards):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "killed/manifest.json").exists(), "it was killed too late to test anything"
    assert turnout("verify", tmp_path / "killed").code == 1
    assert turnout_process(*words, "--out", tmp_path / "killed").code == 0
    assert turnout("verify", tmp_path / "killed").code == 0
    for path in (tmp_path / "whole/tables").iterdir():
        assert path.read_bytes() == (tmp_path / "killed/tables" / path.name).read_bytes(), path.name
    assert (tmp_path / "whole/audit.json").read_bytes() == (tmp_path / "killed/audit.json").read_bytes()


def test_other_budgets_are_recut_and_rerun(turnout, checkpoint, tasks, tmp_path):
    words = ("audit", checkpoint("olmoe"), "--tasks", tasks, "--out", tmp_path / "run", "--budgets", "1,4")
    ran = turnout(*words, "--json")
    assert ran.code == 0, ran.err
    assert ran.json()["budgets"]["k"] == [1, 4]
    table = pl.read_parquet(tmp_path / "run/tables/budgets.parquet")
    assert set(table["mode"]) == {"recut", "rerun"}
    assert table.filter(pl.col("own"))["retention"].to_list() == [1.0] * len(table.filter(pl.col("own")))
    again = turnout("audit", tmp_path / "run", "--out", tmp_path / "again", "--budgets", "4", "--json")
    assert again.code == 0, again.err
    assert "rerun" not in set(pl.read_parquet(tmp_path / "again/tables/budgets.parquet")["mode"]), "without the model"


@pytest.mark.parametrize("budgets", ["9", "0"])
def test_budgets_beyond_the_experts_are_refused(turnout, checkpoint, tasks, tmp_path, budgets):
    out = tmp_path / "run"
    ran = turnout("audit", checkpoint("olmoe"), "--tasks", tasks, "--out", out, "--budgets", budgets)
    assert ran.code == 1
    assert len(ran.err.strip().splitlines()) == 1


def test_every_audit_lists_the_tokens_of_its_committee(turnout, checkpoint, tasks, tmp_path):
    turnout("audit", checkpoint("olmoe"), "--tasks", tasks, "--out", tmp_path / "run")
    tokens = pl.read_parquet(tmp_path / "run/tables/tokens.parquet")
    assert "?" in tokens["text"].to_list()
    atlas = pl.read_parquet(tmp_path / "run/tables/atlas.parquet")
    assert atlas.filter(layer=0)["count"].sum() == tokens["count"].sum() * 2, "every token chooses two experts"


def test_budgets_are_refused_before_anything_is_written(turnout, checkpoint, tasks, tmp_path):
    words = ("audit", checkpoint("olmoe"), "--tasks", tasks, "--out", tmp_path / "run")
    assert turnout(*words, "--budgets", "0").code == 1
    assert not (tmp_path / "run").exists()
    assert turnout(*words, "--budgets", "4").code == 0


def test_examples_are_drawn_from_all_questions_of_a_file(turnout, checkpoint, tasks, tmp_path):
    words = ("audit", checkpoint("olmoe"), "--tasks", tasks, "--limit", 1, "--shots", 1, "--out", tmp_path / "run")
    ran = turnout(*words)
    assert ran.code == 0, ran.err


@pytest.mark.parametrize("name", ["tables/contribution.parquet", "routers.safetensors"])
def test_a_missing_file_of_a_complete_run_is_reported(turnout, checkpoint, tasks, tmp_path, name):
    turnout("audit", checkpoint("olmoe"), "--tasks", tasks, "--out", tmp_path / "run")
    (tmp_path / "run" / name).unlink()
    words = ("export",) if name.startswith("tables") else ("audit",)
    ran = turnout(*words, tmp_path / "run", "--out", tmp_path / "out")
    assert ran.code == 1
    assert name.rsplit("/", 1)[-1] in ran.err
