"""Tasks of lm-evaluation-harness on disk with their data: every kind of request, no network."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

TASKS = "tiny_choice,tiny_pairs,tiny_generate,tiny_text"

MANY = """
task: tiny_choice
dataset_path: json
dataset_kwargs: {data_files: {test: DATA/choice.jsonl, train: DATA/shots.jsonl}}
test_split: test
fewshot_split: train
output_type: multiple_choice
doc_to_text: "Q: {{question}}\\nA:"
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
metric_list: [{metric: acc}, {metric: acc_norm}]
"""
PAIRS = """
task: tiny_pairs
dataset_path: json
dataset_kwargs: {data_files: {test: DATA/pairs.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: ""
num_fewshot: 0
doc_to_choice: "{{[good, bad]}}"
doc_to_target: 0
metric_list: [{metric: acc}]
"""
GENERATE = """
task: tiny_generate
dataset_path: json
dataset_kwargs: {data_files: {test: DATA/choice.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}} ="
doc_to_target: "{{choices[answer]}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 4, do_sample: false}
metric_list: [{metric: exact_match}]
"""
ROLLING = """
task: tiny_text
dataset_path: json
dataset_kwargs: {data_files: {test: DATA/text.jsonl}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: bits_per_byte}]
"""
GROUP = """
group: tiny_group
task: [tiny_choice, tiny_pairs]
aggregate_metric_list: [{metric: acc, weight_by_size: true}]
"""


def write(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="session")
def task_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of task files; questions have answers of one token and of several."""
    folder = tmp_path_factory.mktemp("harness-tasks")
    question = [
        {"question": f"{a} + {b}" + " please" * (a % 3), "choices": [str(a + b), str(a + b + 1), "none"], "answer": 0}
        for a in range(3)
        for b in range(2)
    ]
    write(folder / "choice.jsonl", question)
    write(
        folder / "shots.jsonl", [{"question": f"{a} + 1", "choices": [str(a + 1), "0"], "answer": 0} for a in range(4)]
    )
    write(folder / "pairs.jsonl", [{"good": f"The cat sits {i}.", "bad": f"The cat sit {i}."} for i in range(4)])
    write(folder / "text.jsonl", [{"text": "A line of text that is longer than the window. " * n} for n in (1, 15)])
    for name, text in {"many": MANY, "pairs": PAIRS, "generate": GENERATE, "rolling": ROLLING, "group": GROUP}.items():
        (folder / f"{name}.yaml").write_text(text.replace("DATA", str(folder)).lstrip(), encoding="utf-8")
    return folder


@pytest.fixture(scope="session", autouse=True)
def offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No request to the hub; prepared data go to a folder of this session."""
    import datasets
    from huggingface_hub import constants

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        patch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
        patch.setattr("torch.utils.collect_env.get_pretty_env_info", lambda: "")  # asks pip and more: seconds
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("datasets")))
        yield


@pytest.fixture(scope="session")
def moe(checkpoint: Callable[[str], Path]):
    from turnout.models.wrap.load import load

    return load(checkpoint("olmoe"))


@pytest.fixture(scope="session")
def command(checkpoint: Callable[[str], Path], task_folder: Path) -> list[object]:
    """`turnout eval` on all tasks; add --out."""
    asked = ["eval", checkpoint("olmoe"), "--tasks", TASKS, "--include-path", task_folder]
    return [*asked, "--num-fewshot", 1, "--batch-size", 2]


@pytest.fixture(scope="session")
def evaluated(command: list[object], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The run of `command`, and what --json printed; one a session, since an audit's nulls take seconds."""
    from turnout.cli.main import app

    out = tmp_path_factory.mktemp("evaluated") / "run"
    done = CliRunner().invoke(app, [str(word) for word in [*command, "--out", out, "--json"]], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return out, done.stdout
