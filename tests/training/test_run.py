"""Training runs: what they learn, write, refuse and resume."""

import math

import polars as pl
import pytest
import torch
import yaml
from listeners import Recorder
from training.texts import recipe, write_recipe
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from turnout import CoupleConfig, Listener, TrainRecipe, train
from turnout.errors import RecipeError, RunError
from turnout.runs import verify
from turnout.training.sequences import windows
from turnout.training.tokens import prepare_tokens


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run of 60 steps, its progress reports, and the recipe's path."""
    folder = tmp_path_factory.mktemp("trained")
    path, reports = write_recipe(folder, tokens=60 * 4 * 32, evaluate_every=30), []
    result = train(path, folder / "run", listener=Recorder(on_progress=lambda *report: reports.append(report)))
    return result, reports, path


def test_learns(trained):
    result, _, _ = trained
    metrics = result.frame()
    loss = metrics.filter(pl.col("metric") == "loss")["value"]
    assert loss[-1] < 0.7 * loss[0]
    assert (result.steps, result.tokens) == (60, 60 * 4 * 32)
    at = metrics.filter((pl.col("metric") == "held_out_loss") & (pl.col("source") == "a"))
    assert at["step"].to_list() == [30, 60]
    assert at["value"][-1] == pytest.approx(result.losses["a"])


def test_loads_with_transformers_alone(trained):
    result, _, _ = trained
    model = AutoModelForCausalLM.from_pretrained(result.model)
    tokenizer = AutoTokenizer.from_pretrained(result.model)
    ids = tokenizer("a7 gate router token", return_tensors="pt").input_ids
    with torch.no_grad():
        loss = model(input_ids=ids, labels=ids).loss
    assert (result.model / "model.safetensors").is_file()
    assert torch.isfinite(loss)
    assert model.config._attn_implementation == "sdpa"


def test_the_held_out_loss_excludes_the_load_balancing_loss(trained):
    result, _, path = trained
    data = TrainRecipe.load(path).data
    tokens = prepare_tokens(data, result.path / ".tokens", 3, Listener())["held_out"]["b"]
    rows = torch.stack([row["input_ids"] for row in windows(tokens, 32, 128)])
    model = AutoModelForCausalLM.from_pretrained(result.model)
    with torch.no_grad():
        loss = model(input_ids=rows, labels=rows, output_router_logits=False).loss
    assert result.losses["b"] == pytest.approx(loss.item(), rel=1e-4)


def test_runs_on_the_same_text_share_its_tokens(tmp_path):
    path = write_recipe(tmp_path, tokens=4 * 32 * 2)
    first = TrainRecipe.load(path)
    second = first.model_copy(update={"schedule": first.schedule.model_copy(update={"learning_rate": 1e-4})})
    for name, made in {"first": first, "second": second}.items():
        train(made, tmp_path / name, tokens_in=tmp_path / "tokens")
        assert not (tmp_path / name / ".tokens").exists()
    assert len(list((tmp_path / "tokens").iterdir())) == 1
    source = tmp_path / "a.jsonl"
    source.write_text(source.read_text() + '{"text": "one more"}\n')
    train(first, tmp_path / "third", tokens_in=tmp_path / "tokens")
    assert len(list((tmp_path / "tokens").iterdir())) == 2


def test_reports_progress(trained):
    result, reports, _ = trained
    training = [done for what, done, _, unit in reports if (what, unit) == ("training", "tokens")]
    assert training == list(range(128, 60 * 128 + 1, 128))
    assert reports[-1][1] == reports[-1][2] == result.tokens


def test_leaves_a_complete_run(trained):
    result, _, _ = trained
    assert verify(result.path) == []
    assert not (result.path / ".checkpoints").exists()
    assert "60 steps" in result.summary()


def test_a_complete_run_is_left_alone(trained):
    result, _, path = trained
    before = {
        file: file.stat().st_mtime_ns for file in result.path.rglob("*") if file.is_file() and file.name != ".lock"
    }
    again = train(path, result.path)
    after = {
        file: file.stat().st_mtime_ns for file in result.path.rglob("*") if file.is_file() and file.name != ".lock"
    }
    assert again.already_complete
    assert before == after
    assert again.losses == result.losses
    assert "complete already" in again.summary()


def test_refuses_a_folder_of_another_run(trained, tmp_path):
    result, _, path = trained
    other = yaml.safe_load(path.read_text())
    other["schedule"]["learning_rate"] = 0.5
    with pytest.raises(RunError, match=r"learning_rate"):
        train(other, result.path)
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(RunError, match=r"letter.txt"):
        train(path, tmp_path)


def test_refuses_a_missing_source_and_leaves_nothing(trained, tmp_path):
    content = recipe(trained[2].parent)
    content["data"]["sources"][0]["path"] = str(tmp_path / "none.jsonl")
    with pytest.raises(RecipeError, match=r"none.jsonl: expected a file or folder that the recipe names"):
        train(content, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_starts_from_a_trained_model(trained, tmp_path):
    result, _, path = trained
    content = yaml.safe_load(path.read_text())
    del content["model"]
    content |= {"start": str(result.model), "schedule": {"tokens": 256, "batch_size": 4, "learning_rate": 1e-9}}
    further = train(content, tmp_path / "run")
    assert further.losses == pytest.approx(result.losses, rel=1e-3)


def test_bfloat16_trains_too(tmp_path):
    path = write_recipe(tmp_path, precision="bfloat16")
    losses = train(path, tmp_path / "run").losses
    exact = train(write_recipe(tmp_path), tmp_path / "exact").losses
    assert losses == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize(("layered", "of_model"), [(0.5, 0.0), (0.0, 0.5), (0.5, 0.5)])
def test_the_logged_loss_excludes_the_load_balancing_loss(tmp_path, layered, of_model):
    def logged(name, layer_balancing, aux_loss):
        content = recipe(tmp_path, learning_rate=1e-12, layer_balancing=layer_balancing)
        content["model"]["aux_loss"] = aux_loss
        result = train(content, tmp_path / name)
        metrics = result.frame()
        return [metrics.filter(metric=of)["value"][0] for of in ("loss", "lm_loss")]

    write_recipe(tmp_path)
    plain, plain_text = logged("plain", 0.0, 0.0)
    loss, text = logged("balanced", layered, of_model)
    assert plain == pytest.approx(plain_text, abs=1e-4)  # the Trainer rounds
    assert text == pytest.approx(plain_text, abs=1e-4)
    assert loss > text + 0.9 * (layered + of_model)


def test_prepare_changes_the_model_and_inputs_identify_the_run(tmp_path):
    class CountSteps(TrainerCallback):
        steps = 0

        def on_step_end(self, *_, **__):
            self.steps += 1

    def prepare(model):
        with torch.no_grad():
            model.lm_head.weight.zero_()
        return [counter]

    path, counter = write_recipe(tmp_path, learning_rate=1e-12), CountSteps()
    result = train(path, tmp_path / "run", prepare=prepare, inputs={"zeroed": True})
    assert counter.steps == result.steps == 12
    vocabulary = len(AutoTokenizer.from_pretrained(result.model))
    assert result.losses["a"] == pytest.approx(math.log(vocabulary), abs=1e-3)  # a uniform distribution
    with pytest.raises(RunError, match="zeroed"):
        train(path, tmp_path / "run")


def test_erc_as_text_mapping_and_settings_is_one_run(tmp_path):
    path, weight = write_recipe(tmp_path), 10.0
    first = train(path, tmp_path / "run", erc=f"weight={weight},normalized=true")
    assert {"coupling/erc", "coupling/layer_1/gate_norm"} <= set(first.frame()["metric"])
    for erc in ({"weight": weight, "normalized": True}, CoupleConfig(weight=weight, normalized=True, seed=3)):
        assert train(path, tmp_path / "run", erc=erc).already_complete
    with pytest.raises(RecipeError, match="alpha: expected a number or a mapping, to be recorded, got a function"):
        train(path, tmp_path / "scheduled", erc=CoupleConfig(alpha=lambda step: 1.0))
    assert not (tmp_path / "scheduled").exists()
