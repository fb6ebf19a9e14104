"""`turnout eval` end to end, and its errors."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from turnout.evaluating import task_objects


def turnout(*words: object):
    from turnout.cli.main import app

    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


def test_json_is_the_stored_result(evaluated):
    out, printed = evaluated
    assert json.loads(printed) == json.loads((out / "eval.json").read_text())


def test_other_verbs_accept_the_run(evaluated, tmp_path):
    out, _ = evaluated
    again = turnout("audit", out, "--scope", "all", "--out", tmp_path / "all", "--json")
    assert again.exit_code == 0, again.stderr
    counts = {"tiny_choice": 6, "tiny_pairs": 8, "tiny_generate": 6, "tiny_text": 3}
    assert json.loads(again.stdout)["tasks"]["domains"] == counts
    for words in (["report", out], ["compare", out, tmp_path / "all"], ["verify", out]):
        assert turnout(*words).exit_code == 0, words


def test_the_same_command_again_reports_a_complete_run(evaluated, command, monkeypatch):
    monkeypatch.setattr("turnout.evaluating.run.run_harness", None)
    done = turnout(*command, "--out", evaluated[0])
    assert done.exit_code == 0
    assert "complete" in done.stderr
    assert "bits_per_byte" in done.stdout


def test_another_limit_is_another_run(evaluated, command):
    refused(*command, "--out", evaluated[0], "--limit", 1, says="limit")


def refused(*words: object, says: str) -> str:
    """One line on stderr, nothing on stdout, exit status 1."""
    done = turnout(*words)
    assert done.exit_code == 1
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert says in done.stderr
    return done.stderr


@pytest.fixture
def folder(tmp_path) -> Path:
    """Folder for task files with errors."""
    made = tmp_path / "wrong"
    made.mkdir()
    return made


def task(folder: Path, **changes: object) -> Path:
    """A task file with `changes`; returns the folder."""
    kept = {
        "task": "wrong",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "rows.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{q}}",
        "doc_to_choice": ["a", "b"],
        "doc_to_target": 0,
        "metric_list": [{"metric": "acc"}],
    }
    (folder / "wrong.yaml").write_text(json.dumps(kept | changes))
    return folder


def test_an_unknown_task_gets_suggestions_without_building_the_index(checkpoint, task_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(task_objects, "packaged_text", lambda: iter(["task: hellaswag\n", "group: mmlu\n"]))
    out = tmp_path / "run"
    words = ["eval", checkpoint("olmoe"), "--include-path", task_folder, "--out", out]
    assert "hellaswag" in refused(*words, "--tasks", "helaswag", says="near it")
    assert "tiny_choice" in refused(*words, "--tasks", "tiny_choise", says="near it")
    refused(*words, "--tasks", "tiny_choice,qqqqqqq", says="lm-eval ls tasks")
    refused(*words, "--tasks", ",", says="at least one task")
    assert not out.exists()


def test_the_quick_search_finds_names_of_tasks_and_groups():
    import lm_eval.tasks

    (folder,) = lm_eval.tasks.__path__
    texts = [Path(folder, name).read_text() for name in ("hellaswag/hellaswag.yaml", "mmlu/default/_mmlu.yaml")]
    assert {"hellaswag", "mmlu"} <= set(task_objects.NAMED.findall("\n".join(texts)))


def test_the_model_is_checked_before_the_tasks(folder, tmp_path):
    words = ["eval", tmp_path / "nowhere", "--tasks", "wrong", "--include-path", folder / "none"]
    assert "such folder" in refused(*words, "--out", tmp_path / "run", says="nowhere")
    assert not (tmp_path / "run").exists()


def test_wrong_folders_and_data(checkpoint, folder, tmp_path):
    out = tmp_path / "run"
    words = ["eval", checkpoint("olmoe"), "--tasks", "wrong", "--out", out, "--include-path"]
    refused(*words, folder / "none", says="no such folder")
    refused(*words, task(folder), says="rows.jsonl")
    (folder / "rows.jsonl").write_text('{"other": 1}\n')
    refused(*words, task(folder), says="lm-evaluation-harness can load")
    (folder / "rows.jsonl").write_text('{"q": "why"}\n')
    refused(*words, task(folder, test_split="nosuch"), says="task wrong")
    assert not out.exists()


def test_data_on_the_hub_without_a_network(checkpoint, folder, tmp_path, monkeypatch):
    from huggingface_hub import HfApi, constants

    words = ["eval", checkpoint("olmoe"), "--tasks", "wrong", "--out", tmp_path / "run", "--include-path"]
    task(folder, dataset_path="nobody/nothing", dataset_kwargs={})
    refused(*words, folder, says="HF_HUB_OFFLINE=1")  # set here: the copy that is not there is asked for at once

    def unreachable(*_: object, **__: object):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(HfApi, "dataset_info", unreachable)
    refused(*words, folder, says="no route to host")
    assert not (tmp_path / "run").exists()


def test_a_folder_with_other_content_is_refused(checkpoint, task_folder, folder):
    (folder / "notes.txt").write_text("mine")
    words = ["eval", checkpoint("olmoe"), "--tasks", "tiny_text", "--include-path", task_folder]
    refused(*words, "--out", folder, says="notes.txt")


def test_importing_the_verb_is_cheap():
    code = "import sys, turnout.cli.evaluate; sys.exit(bool({'torch', 'lm_eval'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
