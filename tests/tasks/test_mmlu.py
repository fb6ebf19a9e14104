"""MMLU from lm-evaluation-harness, from folders in each layout, and one error when the hub cannot be reached."""

import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from turnout.errors import TaskError
from turnout.tasks import load_tasks, mmlu

ROWS = [
    ("anatomy", 'A "quoted", line\nbreak?', ["a", "b", "c", "d"], 2),
    ("anatomy", "None?", ["None", "", "NA", "1"], 0),
    ("virology", "Which?", ["w", "x", "y", "z"], 3),
]


def quoted(cell):
    return '"' + cell.replace('"', '""') + '"'


def write_csvs(folder, pattern):
    for subject in ("anatomy", "virology"):
        path = folder / pattern.format(subject)
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [",".join(map(quoted, [q, *c, "ABCD"[a]])) for s, q, c, a in ROWS if s == subject]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_parquet(path, rows=ROWS):
    path.parent.mkdir(parents=True, exist_ok=True)
    names = ["subject", "question", "choices", "answer"]
    pq.write_table(pa.table({n: list(column) for n, column in zip(names, zip(*rows, strict=True), strict=True)}), path)


def test_281_dev_questions_and_the_one_that_is_dropped():
    tasks = load_tasks("mmlu-dev")
    assert len(tasks.questions) == 281
    assert len(tasks.subjects()) == 57
    assert tasks.dropped == ("college_chemistry/3: answers E, not A to D",)
    assert tasks.domain_map == "mmlu-9"
    assert len(tasks.domains) == 9
    assert all(len(q.choices) == 4 and q.answer in range(4) for q in tasks.questions)
    assert all(part.strip() == part and part for q in tasks.questions for part in (q.text, *q.choices))
    assert not [q for q in tasks.questions if "step by step" in q.text or "(B)" in "".join((q.text, *q.choices))]
    first = tasks.questions[0]
    assert first.id == "abstract_algebra/0"
    assert first.choices == ("True, True", "False, False", "True, False", "False, True")
    assert first.choices[first.answer] == "True, False"


def test_lang_ling_can_be_left_out():
    assert len(load_tasks("mmlu-dev").without("Lang-Ling").questions) == 281 - 9


@pytest.mark.parametrize("pattern", ["test/{}_test.csv", "{}_test.csv", "{}.csv"])
def test_folders_of_csv(tmp_path, pattern):
    write_csvs(tmp_path, pattern)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "anatomy_dev.csv").write_text("q,1,2,3,4,A\n")
    tasks = load_tasks(tmp_path)
    assert [(q.subject, q.text, list(q.choices), q.answer) for q in tasks.questions] == ROWS
    assert [q.id for q in tasks.questions] == ["anatomy/0", "anatomy/1", "virology/0"]
    assert tasks.domains == ("STEM-BioMed",)


@pytest.mark.parametrize(
    "name",
    [
        "test-00000-of-00001.parquet",
        "all/test-00000-of-00001.parquet",
        "data/test-00000-of-00001.parquet",
        "rows.parquet",
    ],
)
def test_folders_of_parquet_contain_the_same_questions(tmp_path, name):
    write_csvs(tmp_path / "csv", "test/{}_test.csv")
    write_parquet(tmp_path / "hub" / name)
    write_parquet(tmp_path / "hub" / "all" / "dev-00000-of-00001.parquet", ROWS[:1])
    assert load_tasks(tmp_path / "hub").digest == load_tasks(tmp_path / "csv").digest


def test_one_parquet_a_subject(tmp_path):
    write_parquet(tmp_path / "anatomy" / "test-00000-of-00001.parquet", ROWS[:2])
    write_parquet(tmp_path / "virology" / "test-00000-of-00001.parquet", ROWS[2:])
    assert [q.id for q in load_tasks(tmp_path).questions] == ["anatomy/0", "anatomy/1", "virology/0"]


def test_another_split(tmp_path):
    write_csvs(tmp_path, "val/{}_val.csv")
    assert len(load_tasks(tmp_path, split="validation").questions) == 3
    with pytest.raises(TaskError, match=r"test/<subject>_test.csv"):
        load_tasks(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"q,1,2,3,4,E\n", r"row 1 of .*answer letter from A to D, got 'E'"),
        (b"q,1,2,3,4,A\nq,1,B\n", r"row 2 of .*expected 6 cells.*, got 3 cells"),
        (b"question,A,B,C,D,answer\n", r"row 1 of .*got 'answer'"),
        (b"q,1,2,3,4,A\nq,1,2,\xff,4,A\n", r"line 2 of .*expected UTF-8, got byte 0xff"),
        (b'q,1,2,"3"x,4,A\n', r"line 1 of .*expected CSV"),
    ],
)
def test_bad_csv_rows(tmp_path, content, message):
    (tmp_path / "anatomy_test.csv").write_bytes(content)
    with pytest.raises(TaskError, match=message) as caught:
        load_tasks(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_without_questions(tmp_path):
    (tmp_path / "readme.md").write_text("hello")
    with pytest.raises(TaskError, match="a folder without them"):
        load_tasks(tmp_path)


def test_without_a_network_there_is_one_error_with_advice(monkeypatch):
    import huggingface_hub

    def unreachable(*args, **kwargs):
        raise ConnectionError("[Errno -2] Name or service not known")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", unreachable)
    for spec in ("mmlu", "someone/questions"):
        with pytest.raises(TaskError, match="pass a folder or file"):
            load_tasks(spec)


def test_rows_of_the_hub_equal_those_of_a_folder(monkeypatch, tmp_path):
    import datasets
    import huggingface_hub

    calls = []
    table = datasets.Dataset.from_dict(
        {
            n: list(c)
            for n, c in zip(["subject", "question", "choices", "answer"], zip(*ROWS, strict=False), strict=False)
        }
    )
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *args, **kwargs: None)
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: (calls.append((args, kwargs)), table)[1])
    write_csvs(tmp_path, "{}.csv")
    assert load_tasks("mmlu").digest == load_tasks(tmp_path).digest
    load_tasks("someone/questions", split="train")
    assert calls == [(("cais/mmlu", "all"), {"split": "test"}), (("someone/questions", None), {"split": "train"})]


def test_a_missing_harness_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(mmlu.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TaskError, match="pip install lm-eval"):
        load_tasks("mmlu-dev")
    monkeypatch.undo()
    monkeypatch.setattr(mmlu, "harness_folder", lambda: tmp_path)
    with pytest.raises(TaskError, match="dev questions in the installed lm_eval"):
        load_tasks("mmlu-dev")


def test_an_example_that_is_not_a_question_is_dropped_and_listed(monkeypatch, tmp_path):
    path = tmp_path / mmlu.DEV_FILE
    path.parent.mkdir(parents=True)
    good = "Q: One?\n(A) 1 (B) 2 (C) 3 (D) 4\nA: Let's think. The answer is (A)."
    path.write_text(
        json.dumps({"anatomy": f"Intro.\n\n{good}\n\nQ: Two?\nA: 3.\n\nQ: Three?\n(A) 1 (B) 2 (C) 3 (D) 4\nA: no."})
    )
    monkeypatch.setattr(mmlu, "harness_folder", lambda: tmp_path)
    tasks = load_tasks("mmlu-dev")
    assert [(q.text, q.choices, q.answer) for q in tasks.questions] == [("One?", ("1", "2", "3", "4"), 0)]
    assert tasks.dropped == ("anatomy/1: not a question with choices A to D", "anatomy/2: answers nothing, not A to D")


def test_neither_torch_nor_the_harness_is_imported():
    code = (
        "import sys; from turnout.tasks import load_tasks; load_tasks('mmlu-dev');"
        "sys.exit(bool({'torch', 'transformers', 'lm_eval', 'datasets'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
