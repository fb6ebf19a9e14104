"""GRPO through the command line and Python: the reward, what is trained, resuming, stored answers."""

import json
from dataclasses import replace

import polars as pl
import pytest
import torch
from listeners import Recorder
from safetensors.torch import load_file
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer
from typer.testing import CliRunner

import turnout
from turnout.cli.main import app
from turnout.models.wrap.load import load_causal
from turnout.reasoning.answers import answer
from turnout.reasoning.grpo.trainer import reward, without_end_token
from turnout.runs import verify


def grpo(model, out, *options):
    command = ["grpo", model, "--tasks", "chains-1", "--out", out, "--max-new-tokens", "6", *options]
    return CliRunner().invoke(app, list(map(str, command)))


def test_the_reward_is_the_parsed_final_answer():
    texts = ["7 . 7 .", "the answer is 70,000", "7 . 8 .", "", "tavi ."]
    gold, kinds = ["7", "70000", "7", "7", "tavi"], [*["reasoning"] * 4, "recall"]
    rewards = reward(prompts=["p"] * 5, completions=texts, answer=gold, kind=kinds, completion_ids=None)
    assert rewards == [1, 1, 0, 0, 1]  # rows of one prompt keep their own kinds


def test_the_command_trains_and_compares(half_taught, tmp_path):
    out = tmp_path / "out"
    options = ["--steps", "2", "--problems-per-step", "2", "--generations", "3", "--learning-rate", "1e-3"]
    options += ["--test-problems", "20"]
    done = grpo(half_taught, out, *options, "--routers", "frozen", "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    accuracy = result["accuracy"]
    assert accuracy["difference"] == pytest.approx(accuracy["after"] - accuracy["before"])
    assert accuracy["problems"] == result["before"]["n"] == 20
    before, after = load_file(half_taught / "model.safetensors"), load_file(out / "model" / "model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name].to(before[name].dtype))}
    assert changed
    assert not any(name.endswith("mlp.gate.weight") for name in changed)
    assert verify(out) == []
    assert not (out / ".checkpoints").exists()
    former = ["--most-tokens", "6", "--asked", "20", *options[:-2]]  # the same settings by their former names
    again = grpo(half_taught, out, *former, "--routers", "frozen")
    assert again.exit_code == 0
    assert "is complete" in again.stderr
    assert load_causal(out / "model")[0].config.model_type == "olmoe"


def test_former_names_are_accepted(half_taught, tmp_path):
    options = {"steps": 1, "problems_per_step": 2, "generations": 2}
    with pytest.warns(DeprecationWarning, match="most_tokens=; use max_new_tokens="):
        former = turnout.grpo(half_taught, "chains-1", tmp_path / "run", most_tokens=2, asked=4, **options)
    again = turnout.grpo(half_taught, "chains-1", tmp_path / "run", max_new_tokens=2, test_problems=4, **options)
    assert again.already_complete
    assert again.to_dict() == former.to_dict()
    from turnout.reasoning import grpo as room

    with pytest.warns(DeprecationWarning, match="Rewarded; use GrpoResult"):
        assert room.Rewarded is turnout.GrpoResult


def test_an_error_is_one_line(half_taught, tmp_path):
    done = grpo(half_taught, tmp_path / "out", "--learning-rate", "0")
    assert done.exit_code == 1
    assert "learning_rate: expected a number above 0, got 0.0" in done.stderr


@pytest.mark.parametrize("stop", [2, 4, 5])
def test_a_stopped_run_resumes_exactly(half_taught, tmp_path, stop):
    received = []

    def stop_at(what, done, *_):
        received.append(done)
        if len(received) == stop:
            raise KeyboardInterrupt  # this step's checkpoint is not written yet

    recorder = Recorder(on_progress=stop_at)

    # two steps a pass over the problems: stopped in the first, at the end of the second and in the third
    options = {"steps": 6, "problems": 4, "problems_per_step": 2, "generations": 2, "save_every": 1}
    options |= {"max_new_tokens": 6, "test_problems": 8, "learning_rate": 1e-3, "temperature": 1.5}
    with pytest.raises(KeyboardInterrupt):
        turnout.grpo(half_taught, "chains-1", tmp_path / "out", listener=recorder, **options)
    result = turnout.grpo(half_taught, "chains-1", tmp_path / "out", listener=recorder, **options)
    assert received == [*range(1, stop + 1), *range(stop, 7)]
    whole = turnout.grpo(half_taught, "chains-1", tmp_path / "whole", **options)
    curves = result.frame().filter(pl.col("metric").is_in(["reward", "kl", "loss", "tokens"]))
    assert curves.equals(whole.frame().filter(pl.col("metric").is_in(["reward", "kl", "loss", "tokens"])))
    assert curves.filter(metric="reward")["step"].to_list() == [1, 2, 3, 4, 5, 6]
    weights = [load_file(tmp_path / name / "model" / "model.safetensors") for name in ("out", "whole")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])
    assert verify(tmp_path / "out") == []


def test_a_run_stopped_after_its_last_step_does_no_other(half_taught, tmp_path, monkeypatch):
    calls = []

    def stop_at_the_second(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return answer(*arguments, **options)

    monkeypatch.setattr("turnout.reasoning.grpo.run.answer", stop_at_the_second)
    options = {"steps": 3, "problems": 8, "problems_per_step": 2, "generations": 2}
    options |= {"max_new_tokens": 6, "test_problems": 8, "learning_rate": 1e-3, "temperature": 1.5}
    with pytest.raises(KeyboardInterrupt):
        turnout.grpo(half_taught, "chains-1", tmp_path / "out", **options)
    result = turnout.grpo(half_taught, "chains-1", tmp_path / "out", **options)
    whole = turnout.grpo(half_taught, "chains-1", tmp_path / "whole", **options)
    assert result.frame().equals(whole.frame())
    assert result.frame()["step"].max() == 3
    weights = [load_file(tmp_path / name / "model" / "model.safetensors") for name in ("out", "whole")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])


def test_rare_answers_are_stored(half_taught, monkeypatch):
    def mostly_none(*arguments, **options):
        return replace(answer(*arguments, **options), final=(None,) * 110 + ("5",) * 10)

    monkeypatch.setattr("turnout.reasoning.grpo.run.answer", mostly_none)
    few = {"steps": 1, "problems_per_step": 2, "generations": 2}
    result = turnout.grpo(half_taught, "chains-1", **few, max_new_tokens=1, test_problems=120)
    table = result.table("answers")
    assert table["before"].to_list() == table["after"].to_list() == [None] * 110 + ["5"] * 10


def test_prompts_of_an_appending_tokenizer_have_no_end_token(half_taught):
    tokenizer = AutoTokenizer.from_pretrained(half_taught)
    plain = tokenizer("start 5")["input_ids"]
    assert without_end_token(tokenizer) is tokenizer
    end = tokenizer.convert_ids_to_tokens([0])[0]
    template = TemplateProcessing(single=f"$A {end}", special_tokens=[(end, 0)])
    tokenizer.backend_tokenizer.post_processor = template
    assert tokenizer("start 5")["input_ids"] == [*plain, 0]
    assert without_end_token(tokenizer)("start 5")["input_ids"] == plain
    assert tokenizer("start 5")["input_ids"] == [*plain, 0]  # the tokenizer itself is left as it was
