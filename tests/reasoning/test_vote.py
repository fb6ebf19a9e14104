"""Voting through the command line; its figures against plain loops; exercises by name and from files."""

import json

import polars as pl
import pytest
from tokenizers.processors import TemplateProcessing
from typer.testing import CliRunner

import turnout
from turnout.cli.main import app
from turnout.errors import TaskError
from turnout.models.forward.answers import answer_nats
from turnout.models.forward.generate import sample
from turnout.models.wrap.load import load_causal
from turnout.reasoning.answered import answered
from turnout.reasoning.vote.figures import figures
from turnout.runs import verify
from turnout.tasks.exercises import load_exercises


def vote(*arguments):
    return CliRunner().invoke(app, ["vote", *map(str, arguments)])


def test_votes_on_the_command_line(half_taught, tmp_path):
    out = tmp_path / "out"
    options = ["--tasks", "chains-1", "--out", out, "--samples", "8", "--problems", "12", "--most-tokens", "6"]
    done = vote(half_taught, *options, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [row["samples"] for row in found["votes"]] == [1, 2, 4, 8]
    first = found["votes"][0]
    assert first["pass"] == pytest.approx(first["majority"])
    passes = [row["pass"] for row in found["votes"]]
    assert passes == sorted(passes)
    assert all(low <= row["majority"] <= high for row in found["votes"] for low, high in [row["majority_interval"]])
    answers = pl.read_parquet(out / "tables" / "answers.parquet")
    assert answers["times"].sum() == 12 * 8
    assert answers.filter("right")["times"].sum() / 96 == pytest.approx(first["pass"])
    assert verify(out) == []
    again = vote(half_taught, *options)
    assert again.exit_code == 0
    assert "is complete" in again.stderr


def test_a_stopped_vote_keeps_its_answers(half_taught, tmp_path, monkeypatch):
    drawn = []

    def draw(*arguments, **options):
        drawn.append(options["seed"])
        if len(drawn) == 3:
            raise KeyboardInterrupt
        return sample(*arguments, **options)

    monkeypatch.setattr("turnout.reasoning.vote.run.sample", draw)
    options = {"samples": 4, "problems": 10, "batch_size": 8, "most_tokens": 6}
    with pytest.raises(KeyboardInterrupt):
        turnout.vote(half_taught, "chains-1", tmp_path / "out", **options)
    found = turnout.vote(half_taught, "chains-1", tmp_path / "out", **options)
    assert drawn == [0, 2, 4, 4, 6, 8]
    assert found.frame().equals(turnout.vote(half_taught, "chains-1", tmp_path / "whole", **options).frame())
    assert verify(tmp_path / "out") == []
    assert not (tmp_path / "out" / ".answers").exists()


def test_answers_that_are_rarely_parsed_are_kept(half_taught, tmp_path, monkeypatch):
    told = iter([None] * 110 + ["5"] * 10)
    monkeypatch.setattr("turnout.reasoning.vote.run.parse_answer", lambda *_: next(told))
    found = turnout.vote(half_taught, "chains-1", tmp_path, samples=1, problems=120, most_tokens=1)
    table = pl.read_parquet(found.path / "tables" / "answers.parquet")
    assert table.filter(answer="5")["times"].sum() == 10
    assert table["answer"].null_count() == 110


def test_prompts_are_tokenized_as_in_grpo(half_taught, monkeypatch):
    model, tokenizer, *_ = load_causal(half_taught)
    first = tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{first} $A", special_tokens=[(first, tokenizer.eos_token_id)]
    )
    asked = []

    def nats(model, prompts, solutions):
        asked.extend([*prompts, *solutions])
        return answer_nats(model, prompts, solutions)

    monkeypatch.setattr("turnout.reasoning.answered.answer_nats", nats)
    answered(model, tokenizer, load_exercises("chains-1", 1))
    assert [tokens[0] == tokenizer.eos_token_id for tokens in asked] == [True, False]


def test_figures_are_plain_counts():
    said = [["a", "a", "b", None], ["b", "b", "b", "a"], [None, None, None, None]]
    rows = figures(said, ["a", "a", "a"], (1, 2, 4), subsets=4000, resamples=50, seed=0)
    assert rows[0]["pass"] == pytest.approx((2 + 1 + 0) / 12)
    assert rows[2]["majority"] == pytest.approx((1 + 0 + 0) / 3)
    assert rows[2]["pass"] == pytest.approx(2 / 3)
    # pairs of the first: aa 1, ab 1/2 (twice), a- 1 (twice), b- 0; of the second: ba 1/2 in half of them
    assert rows[1]["majority"] == pytest.approx(((1 + 2 * 0.5 + 2) / 6 + 3 * 0.5 / 6) / 3, abs=0.01)


@pytest.mark.parametrize(
    ("spec", "said"),
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
def test_bad_exercises_are_refused(tmp_path, monkeypatch, spec, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jsonl").write_text('{"prompt": "p", "answer": "1"}\n{"prompt": "p"}\n')
    (tmp_path / "empty.jsonl").write_text('{"prompt": "p", "answer": " "}\n')
    (tmp_path / "unasked.jsonl").write_text('{"prompt": " ", "answer": "1"}\n')
    (tmp_path / "latin.jsonl").write_bytes('{"prompt": "é", "answer": "1"}\n'.encode("latin-1"))
    with pytest.raises(TaskError, match=said):
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


def test_a_bad_option_is_one_line(half_taught, tmp_path):
    done = vote(half_taught, "--tasks", "chains-1", "--out", tmp_path / "out", "--temperature", "0")
    assert done.exit_code == 1
    assert "temperature: expected a number above 0, got 0.0" in done.stderr
    assert callable(turnout.vote)
