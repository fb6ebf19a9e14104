"""Recipes: what is read, what is refused, former keys, and the form in a run's inputs.json."""

import warnings
from pathlib import Path

import pytest
import yaml
from training.texts import recipe

from turnout import TrainRecipe
from turnout.errors import RecipeError

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture
def content(tmp_path):
    return recipe(tmp_path)


def write(tmp_path, content):
    path = tmp_path / "recipe.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def test_reads_a_recipe(tmp_path, content):
    loaded = TrainRecipe.load(write(tmp_path, content))
    assert (loaded.steps, loaded.model.architecture, loaded.data.sources[1].weight) == (12, "olmoe", 1.0)


def test_is_frozen(content):
    with pytest.raises(ValueError, match="frozen"):
        TrainRecipe.parse(content).seed = 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": 1}, r"recipe.yaml: optimizer: expected a known key \(data, .*, got an unknown one"),
        ({"model": {"widht": 3}}, r"recipe.yaml: model.widht: expected a known key, got an unknown one"),
        ({"schedule": {"learning_rate": "fast"}}, r"schedule.learning_rate: expected a number, got 'fast'"),
        ({"schedule": {"batch_size": 0}}, r"schedule.batch_size: expected a number above 0, got 0"),
        ({"schedule": {"batch_size": 1.5}}, r"schedule.batch_size: expected a whole number, got 1.5"),
        ({"schedule": {"weight_decay": -1}}, r"schedule.weight_decay: expected 0 or more, got -1"),
        ({"schedule": {"warmup": 1}}, r"schedule.warmup: expected a number below 1, got 1"),
        ({"schedule": {"learning_rate": float("inf")}}, r"schedule.learning_rate: expected a finite number, got inf"),
        ({"model": {"options": 3}}, r"model.options: expected a mapping, got 3"),
        ({"schedule": "short"}, r"schedule: expected a mapping, got 'short'"),
        ({"model": {"architecture": 3}}, r"model.architecture: expected text, got 3"),
        ({"data": {"tokenizer": 3}}, r"data.tokenizer: expected a path, got 3"),
        ({"data": {"sources": "all"}}, r"data.sources: expected a list, got 'all'"),
        ({"schedule": {"tokens": 5}}, r"expected keys that fit together, got some that do not: .*less than one step"),
        ({"model": {"top_k": 9}}, r"model: .*top_k must be at most experts \(4\)"),
        ({"model": {"heads": 3}}, r"hidden_size must be a multiple of heads"),
        ({"model": {"context": 16}}, r"sequence_length must be at most model.context"),
        ({"data": {"sources": []}}, r"data.sources: expected .*at least 1"),
        ({"data": {"sources": [{"name": "x"}]}}, r"data.sources.0: .*one of path, worlds"),
        ({"data": {"sources": [{"name": "x/y", "path": "p"}]}}, r"data.sources.0.name: .*pattern"),
        (
            {"data": {"sources": [{"name": "x", "worlds": "poems"}]}},
            r"data.sources.0.worlds: .*'statements' or 'questions'",
        ),
        ({"data": {"sources": [{"name": "x", "path": "p"}] * 2}}, r"sources need names of their own"),
    ],
)
def test_refuses_bad_values(tmp_path, content, change, message):
    for section, keys in change.items():
        content[section] = {**content[section], **keys} if isinstance(keys, dict) else keys
    with pytest.raises(RecipeError, match=message) as error:
        TrainRecipe.load(write(tmp_path, content))
    assert "\n" not in str(error.value)


def test_refuses_a_missing_key(tmp_path, content):
    del content["model"]["experts"]
    with pytest.raises(RecipeError, match=r"model.experts: expected a value, got none"):
        TrainRecipe.load(write(tmp_path, content))


@pytest.mark.parametrize(("text", "message"), [("model: [", "expected YAML"), ("- 1", "a mapping"), ("", "a mapping")])
def test_refuses_files_without_a_mapping(tmp_path, text, message):
    with pytest.raises(RecipeError, match=message):
        TrainRecipe.load(write(tmp_path, text))


def test_refuses_a_missing_file(tmp_path):
    with pytest.raises(RecipeError, match=r"none.yaml: expected a readable YAML file, got No such file"):
        TrainRecipe.load(tmp_path / "none.yaml")


def test_former_keys_of_the_two_balancing_losses(content):
    content["model"]["balancing"], content["schedule"]["balancing"] = 0.5, 0.25
    with pytest.warns(DeprecationWarning, match="deprecated key balancing") as warned:
        loaded = TrainRecipe.parse(content)
    assert {str(warning.message) for warning in warned} == {
        "ModelRecipe: deprecated key balancing; use aux_loss",
        "Schedule: deprecated key balancing; use layer_balancing",
    }
    assert (loaded.model.aux_loss, loaded.schedule.layer_balancing) == (0.5, 0.25)
    content["model"]["aux_loss"] = 0.5
    with pytest.raises(RecipeError, match=r"model\.balancing: expected a known key, got an unknown one"):
        TrainRecipe.parse(content)


SOURCE = {"path": None, "worlds": None, "facts": None, "chains": None, "samples": 10000, "exposures": 8, "weight": 1.0}
STORED = {
    "data": {
        "tokenizer": "tokenizer",
        "sources": [SOURCE | {"name": "a", "path": "a.jsonl"}, SOURCE | {"name": "c", "chains": [1, 2]}],
        "sequence_length": 32,
        "held_out": 0.1,
        "evaluation_tokens": 128,
        "worlds_seed": None,
        "isolated": False,
    },
    "schedule": {
        "tokens": 1536,
        "batch_size": 4,
        "learning_rate": 0.01,
        "warmup": 0.02,
        "weight_decay": 0.1,
        "balancing": 0.01,
        "precision": "float32",
        "evaluate_every": 500,
        "save_every": 4,
    },
    "model": {
        "architecture": "olmoe",
        "hidden_size": 32,
        "layers": 2,
        "heads": 2,
        "experts": 4,
        "top_k": 2,
        "expert_width": 16,
        "context": 64,
        "balancing": 0.01,
        "options": {},
    },
    "start": None,
    "seed": 3,
}
"""A recipe in the inputs.json of version 0.1.0."""


def test_the_form_in_a_run_is_that_of_version_0_1_0():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert TrainRecipe.parse(STORED, stored=True).describe() == STORED


def test_a_run_contains_the_former_keys_and_reads_them_without_a_warning(content):
    content["model"]["aux_loss"], content["schedule"]["layer_balancing"] = 0.5, 0.25
    loaded = TrainRecipe.parse(content)
    described = loaded.describe()
    assert (described["model"]["balancing"], described["schedule"]["balancing"]) == (0.5, 0.25)
    assert "aux_loss" not in described["model"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert TrainRecipe.parse(described, stored=True) == loaded


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "name", ["couple/base", "saturation/recipe", "sparsity/narrow", "sparsity/wide", "sparsity/chosen"]
)
def test_recipes_of_the_experiments_are_readable(name):
    content = yaml.safe_load((EXPERIMENTS / f"{name}.yaml").read_text())
    if "base" in content:  # a sweep, which sets tokens and seed itself
        content = content["base"] | {"schedule": content["base"]["schedule"] | {"tokens": 10**6}}
    assert TrainRecipe.parse(content).schedule.layer_balancing > 0
