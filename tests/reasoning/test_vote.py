"""Voting through the command line and Python; its figures against plain counts."""

import json

import polars as pl
import pytest
import torch
from listeners import Recorder
from tokenizers.processors import TemplateProcessing
from typer.testing import CliRunner

import turnout
from turnout import embedded
from turnout.cli.main import app
from turnout.models.change.adapter import RouterAdapter
from turnout.models.forward.answers import answer_nats
from turnout.models.forward.generate import sample
from turnout.models.wrap.load import load_causal
from turnout.reasoning.answers import answer
from turnout.reasoning.vote.result import figures
from turnout.runs import verify
from turnout.tasks.exercises import load_exercises


def vote(*arguments):
    return CliRunner().invoke(app, ["vote", *map(str, arguments)])


def test_the_command_samples_and_votes(half_taught, tmp_path):
    out = tmp_path / "out"
    options = ["--tasks", "chains-1", "--out", out, "--samples", "8", "--problems", "12"]
    done = vote(half_taught, *options, "--max-new-tokens", "6", "--json")
    assert done.exit_code == 0, done.output
    votes = json.loads(done.stdout)["votes"]
    assert [row["samples"] for row in votes] == [1, 2, 4, 8]
    first = votes[0]
    assert first["pass"] == pytest.approx(first["majority"])
    passes = [row["pass"] for row in votes]
    assert passes == sorted(passes)
    assert all(low <= row["majority"] <= high for row in votes for low, high in [row["majority_interval"]])
    answers = pl.read_parquet(out / "tables" / "answers.parquet")
    assert answers["times"].sum() == 12 * 8
    assert answers.filter("right")["times"].sum() / 96 == pytest.approx(first["pass"])
    assert verify(out) == []
    again = vote(half_taught, *options, "--most-tokens", "6")  # the same setting by its former name
    assert again.exit_code == 0
    assert "is complete" in again.stderr


def test_a_stopped_vote_keeps_its_answers(half_taught, tmp_path, monkeypatch):
    seeds = []

    def stop_at_the_third(*arguments, **options):
        seeds.append(options["seed"])
        if len(seeds) == 3:
            raise KeyboardInterrupt
        return sample(*arguments, **options)

    monkeypatch.setattr("turnout.reasoning.vote.run.sample", stop_at_the_third)
    options = {"samples": 4, "problems": 10, "batch_size": 8, "max_new_tokens": 6}
    with pytest.raises(KeyboardInterrupt):
        turnout.vote(half_taught, "chains-1", tmp_path / "out", **options)
    result = turnout.vote(half_taught, "chains-1", tmp_path / "out", **options)
    assert seeds == [0, 2, 4, 4, 6, 8]
    assert result.frame().equals(turnout.vote(half_taught, "chains-1", tmp_path / "whole", **options).frame())
    assert verify(tmp_path / "out") == []
    assert not (tmp_path / "out" / ".answers").exists()


def test_rare_answers_are_stored(half_taught, monkeypatch):
    parsed = iter([None] * 110 + ["5"] * 10)
    monkeypatch.setattr("turnout.reasoning.vote.run.parse_answer", lambda *_: next(parsed))
    result = turnout.vote(half_taught, "chains-1", samples=1, problems=120, max_new_tokens=1)
    table = result.table("answers")
    assert table.filter(answer="5")["times"].sum() == 10
    assert table["answer"].null_count() == 110


def test_prompts_are_tokenized_as_in_grpo(half_taught, monkeypatch):
    model, tokenizer, *_ = load_causal(half_taught)
    first = tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{first} $A", special_tokens=[(first, tokenizer.eos_token_id)]
    )
    received = []

    def record(model, prompts, solutions):
        received.extend([*prompts, *solutions])
        return answer_nats(model, prompts, solutions)

    monkeypatch.setattr("turnout.reasoning.answers.answer_nats", record)
    answer(model, tokenizer, load_exercises("chains-1", 1))
    assert [tokens[0] == tokenizer.eos_token_id for tokens in received] == [True, False]


def test_figures_are_plain_counts():
    answers = [["a", "a", "b", None], ["b", "b", "b", "a"], [None, None, None, None]]
    rows = figures(answers, ["a", "a", "a"], (1, 2, 4), subsets=4000, resamples=50, seed=0)
    assert rows[0]["pass"] == pytest.approx((2 + 1 + 0) / 12)
    assert rows[2]["majority"] == pytest.approx((1 + 0 + 0) / 3)
    assert rows[2]["pass"] == pytest.approx(2 / 3)
    # pairs of the first: aa 1, ab 1/2 (twice), a- 1 (twice), b- 0; of the second: ba 1/2 in half of them
    assert rows[1]["majority"] == pytest.approx(((1 + 2 * 0.5 + 2) / 6 + 3 * 0.5 / 6) / 3, abs=0.01)


def test_the_embedded_model_is_the_default():
    recorder = Recorder()
    result = turnout.vote(None, "chains-1", samples=2, problems=2, max_new_tokens=2, listener=recorder)
    assert result.to_dict()["model"]["id"] == embedded.model_path().name
    assert result.path.exists()
    folder = result.path
    del result
    assert not folder.exists()


def test_trained_routers_are_loaded(half_taught, tmp_path):
    moe = turnout.load(half_taught)
    router = f"{moe.layers[0].name}.weight"
    base = {"id": "half-taught", "digest": moe.digest(), "dtype": "float32"}
    weights, content = RouterAdapter({router: torch.ones_like(moe.layers[0].rows()[0])}, base, (0,), {}).encoded()
    (tmp_path / "adapter.safetensors").write_bytes(weights)
    (tmp_path / "adapter.json").write_text(json.dumps(content))
    options = {"samples": 2, "problems": 2, "max_new_tokens": 2}
    results = [turnout.vote(half_taught, "chains-1", adapter=adapter, **options) for adapter in (None, tmp_path)]
    assert results[0].to_dict()["model"]["digest"] != results[1].to_dict()["model"]["digest"]


def test_former_names_are_accepted(half_taught, tmp_path):
    options = {"samples": 2, "problems": 2}
    with pytest.warns(DeprecationWarning, match="most_tokens=; use max_new_tokens="):
        turnout.vote(half_taught, "chains-1", tmp_path / "run", most_tokens=2, **options)
    again = turnout.vote(half_taught, "chains-1", tmp_path / "run", max_new_tokens=2, **options)
    assert again.already_complete
    from turnout.reasoning import vote as room

    with pytest.warns(DeprecationWarning, match="Votes; use VoteResult"):
        assert room.Votes is turnout.VoteResult


def test_an_error_is_one_line(half_taught, tmp_path):
    done = vote(half_taught, "--tasks", "chains-1", "--out", tmp_path / "out", "--temperature", "0")
    assert done.exit_code == 1
    assert "temperature: expected a number above 0, got 0.0" in done.stderr
