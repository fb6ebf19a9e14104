"""Exercises by name and from files: splits, kinds of answers, errors."""

import json

import pytest

from turnout.errors import TaskError
from turnout.tasks.exercises import load_exercises


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("chains-0", "levels of one operation"),
        ("nothing", "no such name or file"),
        ("facts-0", "at least one exercise"),
        ("empty.jsonl", r"empty.jsonl, row 1: expected an answer of one line"),
        ("unasked.jsonl", r'unasked.jsonl, row 1: expected an object with strings "prompt" and "answer"'),
        ("latin.jsonl", r"latin.jsonl: expected text in UTF-8"),
        ("bad.jsonl", r'bad.jsonl, row 2: expected an object with strings "prompt" and "answer"'),
    ],
)
def test_errors_name_what_cannot_be_read(tmp_path, monkeypatch, spec, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jsonl").write_text('{"prompt": "p", "answer": "1"}\n{"prompt": "p"}\n')
    (tmp_path / "empty.jsonl").write_text('{"prompt": "p", "answer": " "}\n')
    (tmp_path / "unasked.jsonl").write_text('{"prompt": " ", "answer": "1"}\n')
    (tmp_path / "latin.jsonl").write_bytes('{"prompt": "é", "answer": "1"}\n'.encode("latin-1"))
    with pytest.raises(TaskError, match=message):
        load_exercises(spec, 5)


def test_a_file_of_prompts(tmp_path):
    rows = [{"prompt": "2 + 2\u2028=", "answer": "#### 4."}, {"prompt": "p", "answer": "X y"}]
    (tmp_path / "own.jsonl").write_text("\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    number, words = load_exercises(tmp_path / "own.jsonl", 5)
    assert (number.kind, number.answer) == ("reasoning", "4")
    assert (words.kind, words.answer) == ("text", "x y")


def test_a_file_is_split_by_its_prompts(tmp_path):
    rows = [{"prompt": f"{i} + 1 =", "answer": str(i + 1)} for i in range(400)]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    train, test, whole = (
        {one.prompt for one in load_exercises(tmp_path / "own.jsonl", 400, split)} for split in ("train", "test", None)
    )
    assert not train & test
    assert train | test == whole
    assert 70 <= len(test) <= 130
