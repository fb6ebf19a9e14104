"""GRPO through the command line: reward, trained parameters, resuming, gain of a partly trained model."""

import json
from dataclasses import replace

import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

import turnout
from turnout.cli.main import app
from turnout.models.wrap.load import load_causal
from turnout.reasoning.answered import answered
from turnout.reasoning.grpo.run import reward
from turnout.runs import RunFolder, verify


def grpo(model, out, *options):
    command = ["grpo", model, "--tasks", "chains-1", "--out", out, "--most-tokens", "6", "--asked", "20", *options]
    return CliRunner().invoke(app, list(map(str, command)))


def test_the_reward_is_the_parsed_final_answer():
    right = reward({"p": "reasoning", "q": "recall"})
    texts = ["7 . 7 .", "the answer is 70,000", "7 . 8 .", "", "tavi ."]
    gold, prompts = ["7", "70000", "7", "7", "tavi"], ["p", "p", "p", "p", "q"]
    assert right(prompts=prompts, completions=texts, answer=gold, completion_ids=None) == [1, 1, 0, 0, 1]


def test_rewards_on_the_command_line(half_taught, tmp_path):
    out = tmp_path / "out"
    options = ["--steps", "2", "--problems-per-step", "2", "--generations", "3", "--learning-rate", "1e-3"]
    done = grpo(half_taught, out, *options, "--routers", "frozen", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    accuracy = found["accuracy"]
    assert accuracy["difference"] == pytest.approx(accuracy["after"] - accuracy["before"])
    assert accuracy["problems"] == found["before"]["n"] == 20
    before, after = load_file(half_taught / "model.safetensors"), load_file(out / "model" / "model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name].to(before[name].dtype))}
    assert changed
    assert not any(name.endswith("mlp.gate.weight") for name in changed)
    assert verify(out) == []
    assert not (out / ".checkpoints").exists()
    again = grpo(half_taught, out, *options, "--routers", "frozen")
    assert again.exit_code == 0
    assert "is complete" in again.stderr
    assert load_causal(out / "model")[0].config.model_type == "olmoe"


def test_a_bad_option_is_one_line(half_taught, tmp_path):
    done = grpo(half_taught, tmp_path / "out", "--learning-rate", "0")
    assert done.exit_code == 1
    assert "learning_rate: expected a number above 0, got 0.0" in done.stderr


@pytest.mark.parametrize("stop", [2, 4, 5])
def test_a_stopped_run_resumes_to_the_same_weights(half_taught, tmp_path, stop):
    heard = []

    def listen(what, done, *_):
        heard.append(done)
        if len(heard) == stop:
            raise KeyboardInterrupt  # this step's checkpoint is not written yet

    # two steps a pass over the problems: stopped in the first, at the end of the second and in the third
    options = {"steps": 6, "problems": 4, "problems_per_step": 2, "generations": 2, "most_tokens": 6, "asked": 8}
    options |= {"save_every": 1, "learning_rate": 1e-3, "temperature": 1.5}
    with pytest.raises(KeyboardInterrupt):
        turnout.grpo(half_taught, "chains-1", tmp_path / "out", progress=listen, **options)
    found = turnout.grpo(half_taught, "chains-1", tmp_path / "out", progress=listen, **options)
    assert heard == [*range(1, stop + 1), *range(stop, 7)]
    whole = turnout.grpo(half_taught, "chains-1", tmp_path / "whole", **options)
    curves = found.frame().filter(pl.col("metric").is_in(["reward", "kl", "loss", "tokens"]))
    assert curves.equals(whole.frame().filter(pl.col("metric").is_in(["reward", "kl", "loss", "tokens"])))
    assert curves.filter(metric="reward")["step"].to_list() == [1, 2, 3, 4, 5, 6]
    weights = [load_file(tmp_path / name / "model" / "model.safetensors") for name in ("out", "whole")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])
    assert verify(tmp_path / "out") == []


def test_a_run_stopped_after_its_last_step_takes_no_further_step(half_taught, tmp_path, monkeypatch):
    asked = []

    def ask(*arguments, **options):
        asked.append(1)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return answered(*arguments, **options)

    monkeypatch.setattr("turnout.reasoning.grpo.run.answered", ask)
    options = {"steps": 3, "problems": 8, "problems_per_step": 2, "generations": 2, "most_tokens": 6, "asked": 8}
    options |= {"learning_rate": 1e-3, "temperature": 1.5}
    with pytest.raises(KeyboardInterrupt):
        turnout.grpo(half_taught, "chains-1", tmp_path / "out", **options)
    found = turnout.grpo(half_taught, "chains-1", tmp_path / "out", **options)
    whole = turnout.grpo(half_taught, "chains-1", tmp_path / "whole", **options)
    assert found.frame().equals(whole.frame())
    assert found.frame()["step"].max() == 3
    weights = [load_file(tmp_path / name / "model" / "model.safetensors") for name in ("out", "whole")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])


def test_answers_that_are_rarely_parsed_are_kept(half_taught, tmp_path, monkeypatch):
    def ask(*arguments, **options):
        return replace(answered(*arguments, **options), said=(None,) * 110 + ("5",) * 10)

    monkeypatch.setattr("turnout.reasoning.grpo.run.answered", ask)
    found = turnout.grpo(
        half_taught, "chains-1", tmp_path, steps=1, problems_per_step=2, generations=2, most_tokens=1, asked=120
    )
    table = RunFolder.read(found.path).read_table("answers")
    assert table["before"].to_list() == table["after"].to_list() == [None] * 110 + ["5"] * 10
