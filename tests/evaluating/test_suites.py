"""The paper's four tasks and numbers of shots, on local data of the same format; no hub."""

from pathlib import Path

import lm_eval
import pytest
import yaml
from evaluating.conftest import write

import turnout
from turnout.evaluating.task_objects import SUITES
from turnout.runs import RunFolder

HARNESS = Path(lm_eval.__file__).parent / "tasks"
SHOTS = {"triviaqa": 4, "hellaswag": 4, "gsm8k": 4, "gsm_plus": 5}
FILES = {"triviaqa": "default", "hellaswag": "hellaswag", "gsm8k": "gsm8k", "gsm_plus": "gsm_plus"}
SPLITS = {
    "triviaqa": ("train", "validation"),
    "hellaswag": ("train", "validation"),
    "gsm8k": ("train", "test"),
    "gsm_plus": ("test",),
}


def trivia(i: int) -> dict:
    aliases = [f"Town {i}", f"Town No {i}"]
    return {
        "question": f"What is town {i}",
        "question_id": f"q{i}",
        "answer": {"value": aliases[0], "aliases": aliases},
    }


def hellaswag(i: int) -> dict:
    context = {"activity_label": "Tea", "ctx_a": f"He boils {i} pots.", "ctx_b": "then he"}
    return {"ind": i, **context, "endings": ["pours.", "sleeps.", "flies.", "[step] sings."], "label": str(i % 4)}


def gsm8k(i: int) -> dict:
    return {"question": f"{i} and 2 more?", "answer": f"{i} + 2 = <<{i}+2={i + 2}>>{i + 2}\n#### {i + 2}"}


def gsm_plus(i: int) -> dict:
    return {"question": f"{i} less 1?", "solution": f"{i} - 1.\n#### {i - 1}", "answer": str(i - 1)}


ROWS = {"triviaqa": trivia, "hellaswag": hellaswag, "gsm8k": gsm8k, "gsm_plus": gsm_plus}


@pytest.fixture
def copies(tmp_path) -> Path:
    """The harness's own task files, with data in a local folder."""
    folder = tmp_path / "copies"
    folder.mkdir()
    for name, row in ROWS.items():
        files = {}
        for split in SPLITS[name]:
            files[split] = str(folder / f"{name}-{split}.jsonl")
            write(Path(files[split]), [row(i) for i in (range(10, 18) if split == "train" else range(7))])
        content = {"include": str(HARNESS / name / f"{FILES[name]}.yaml"), "task": name, "dataset_path": "json"}
        content |= {"dataset_name": None, "dataset_kwargs": {"data_files": files}, "test_split": SPLITS[name][-1]}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return folder


def test_the_papers_tasks_and_numbers_of_shots(checkpoint, copies, tmp_path):
    found = turnout.evaluate(checkpoint("olmoe"), "optimal_sparsity", tmp_path / "run", include_path=copies, limit=3)
    assert {task: found.results["n-shot"][task] for task in SHOTS} == SHOTS
    metrics = {task: set(found.results["results"][task]) for task in SHOTS}
    assert "exact_match,remove_whitespace" in metrics["triviaqa"]
    assert {"acc,none", "acc_norm,none"} <= metrics["hellaswag"]
    for name in ("gsm8k", "gsm_plus"):
        assert {"exact_match,strict-match", "exact_match,flexible-extract"} <= metrics[name]
    prompts = RunFolder.read(tmp_path / "run").read_table("prompts")
    asked = {"triviaqa": "What is town", "gsm8k": "more?", "gsm_plus": "less 1?", "hellaswag": "He boils"}
    for task, words in asked.items():
        texts = [text for name, text in prompts.select("id", "text").rows() if name.startswith(f"{task}/")]
        assert len(texts) == 3
        assert {text.count(words) for text in texts} == {SHOTS[task] + 1}, task
    assert set(found.audit.to_dict()["tasks"]["domains"]) == set(SHOTS)


def test_the_suite_contains_tasks_of_the_harness_only():
    suite = yaml.safe_load((SUITES / "optimal_sparsity.yaml").read_text())
    assert {part["task"]: part["num_fewshot"] for part in suite["task"]} == SHOTS
    for name, file in FILES.items():
        assert yaml.safe_load((HARNESS / name / f"{file}.yaml").read_text().replace("!function", ""))["task"] == name
