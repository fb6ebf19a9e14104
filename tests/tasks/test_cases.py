"""Small files that were once read silently wrong, with the right value or the right refusal."""

from pathlib import Path

import pytest

from turnout.errors import TaskError
from turnout.tasks import load_tasks
from turnout.tasks.exercises import load_exercises

CASES = Path(__file__).parents[1] / "fixtures" / "cases"


@pytest.mark.parametrize("case", ["comma", "index"])
def test_shifted_cells_are_refused(case):
    with pytest.raises(TaskError, match=r"row 1 of .*anatomy_test\.csv: expected 6 cells: question.*, got 7 cells"):
        load_tasks(CASES / "csv_shifted" / case)


def test_files_that_look_like_a_subject_and_are_not_read_are_named():
    tasks = load_tasks(CASES / "csv_shifted" / "names")
    assert [question.subject for question in tasks.questions] == ["anatomy"]
    assert sorted(line.partition(":")[0] for line in tasks.dropped) == [
        "Virology_Test.csv",
        "law_test.CSV",
        "virology_test (1).csv",
    ]


def test_a_byte_order_mark_is_no_text():
    questions = load_tasks(CASES / "jsonl_bom/questions_bom.jsonl").questions
    assert [question.text for question in questions] == ["q?", "q?"]
    texts = load_tasks(CASES / "jsonl_bom/text_bom.jsonl").questions
    assert [text.text for text in texts] == ["hello", "again"]
    assert [one.prompt for one in load_exercises(CASES / "jsonl_bom/exercises_bom.jsonl", 1)] == ["2+2="]
