"""`turnout train` and `turnout doctor`."""

import importlib.util
import json
import re
from pathlib import Path
from typing import Literal, get_args, get_origin

import polars as pl
import pytest
import yaml

from turnout.coupling.config import CoupleConfig

spec = importlib.util.spec_from_file_location("texts", Path(__file__).parents[1] / "training/texts.py")
texts = importlib.util.module_from_spec(spec)
spec.loader.exec_module(texts)


@pytest.fixture
def recipe(tmp_path):
    texts.write_corpus(tmp_path)
    path = tmp_path / "recipe.yaml"
    content = texts.recipe(tmp_path)
    content["model"]["context"] = 512
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_trained_model_can_be_audited(turnout, recipe, tmp_path):
    ran = turnout("train", recipe, "--out", tmp_path / "run", "--json")
    assert ran.code == 0, ran.err
    result = ran.json()
    assert result["steps"] == 12
    again = turnout("train", recipe, "--out", tmp_path / "run")
    assert again.code == 0
    assert "complete" in again.err
    audit = turnout("audit", result["model"], "--tasks", "worlds", "--limit", 1, "--out", tmp_path / "audit", "--json")
    assert audit.code == 0, audit.err
    assert [layer["experts"] for layer in audit.json()["layers"]] == [4, 4]


@pytest.mark.parametrize(
    ("change", "word"),
    [({"modell": {}}, "modell"), ({"seed": "one"}, "seed"), ({"data": None}, "data")],
    ids=["unknown key", "wrong type", "missing section"],
)
def test_a_bad_recipe_is_one_line_that_names_the_key(turnout, recipe, tmp_path, change, word):
    content = yaml.safe_load(recipe.read_text()) | change
    recipe.write_text(yaml.safe_dump(content))
    ran = turnout("train", recipe, "--out", tmp_path / "run")
    assert (ran.code, ran.out, len(ran.err.strip().splitlines())) == (1, "", 1), ran.err
    assert word in ran.err
    assert not (tmp_path / "run").exists()


def test_train_coupled_then_matched_to_its_norms(turnout, recipe, tmp_path):
    ran = turnout("train", recipe, "--out", tmp_path / "erc", "--erc", "alpha=1,weight=10,normalized=true", "--json")
    assert ran.code == 0, ran.err
    inputs = json.loads((tmp_path / "erc" / "inputs.json").read_text())["inputs"]
    assert (inputs["erc"]["weight"], inputs["erc"]["seed"]) == (10, 3)  # the recipe's seed
    metrics = pl.read_parquet(tmp_path / "erc" / "tables" / "metrics.parquet")
    assert {"coupling/erc", "coupling/layer_1/router_norm"} <= set(metrics["metric"])
    assert not metrics["metric"].str.contains("overhead").any()
    loss, text = (metrics.filter(metric=name).sort("step")["value"].to_numpy() for name in ("loss", "lm_loss"))
    assert (loss > text + 0.01).all()  # the term is in what is minimised, not in the text's loss
    matched = turnout("train", recipe, "--out", tmp_path / "norms", "--match-norms", tmp_path / "erc", "--json")
    assert matched.code == 0, matched.err
    other = turnout("train", recipe, "--out", tmp_path / "erc", "--erc", "alpha=2")
    assert (other.code, len(other.err.strip().splitlines())) == (1, 1)
    assert "erc" in other.err


@pytest.mark.parametrize(
    ("options", "word"), [(["--erc", "alpha=-1"], "alpha"), (["--match-norms", "nowhere"], "metrics.parquet")]
)
def test_a_bad_coupling_is_one_line(turnout, recipe, tmp_path, options, word):
    ran = turnout("train", recipe, "--out", tmp_path / "run", *options)
    assert (ran.code, ran.out, len(ran.err.strip().splitlines())) == (1, "", 1), ran.err
    assert word in ran.err
    assert not (tmp_path / "run").exists()


def test_a_missing_recipe(turnout, tmp_path):
    ran = turnout("train", tmp_path / "none.yaml")
    assert (ran.code, len(ran.err.strip().splitlines())) == (1, 1)


def test_doctor_lists_what_can_run(turnout):
    installed = turnout("doctor", "--json").json()
    assert installed["versions"]["torch"]
    assert installed["verbs"]["audit"] == "can run"
    assert "torch" in turnout("doctor").out


def test_help_names_every_setting_of_the_term(turnout):
    text = " ".join(turnout("train", "--help").out.split())
    for name, field in CoupleConfig.model_fields.items():
        assert re.search(rf"\b{name}\b", text), name
        for choice in get_args(field.annotation) if get_origin(field.annotation) is Literal else ():
            assert re.search(rf"\b{choice}\b", text), choice
