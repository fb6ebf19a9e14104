"""The settings of the experiments' trials are accepted by the verbs of today."""

import pytest

from experiments.align import run as align
from experiments.couple import trial as couple
from experiments.couple import trials
from experiments.sparsity import after
from turnout.aligning.config import AlignConfig
from turnout.reasoning.grpo.config import GrpoConfig
from turnout.sparsity.sweep import SweepRecipe
from turnout.training.recipe import TrainRecipe

SETTINGS = {"weight": 10.0, "normalised": False}
TRIALS = [*trials.weights(), *trials.variants(SETTINGS), *trials.alphas(SETTINGS), *trials.places(SETTINGS)]
ROOT = align.HERE.parents[1]


@pytest.mark.parametrize("trial", {trial.variant: trial for trial in TRIALS}.values(), ids=lambda trial: trial.variant)
def test_couple(trial):
    recipe = couple.recipe_of(trial)
    assert (recipe.seed, recipe.schedule.tokens) == (trial.seed, trial.tokens)
    assert set(couple.coupled(trial)) == (set() if trial.architecture else {"erc", "match_norms"})


def test_align(monkeypatch):
    monkeypatch.setattr(align, "best_rate", lambda method: align.RATES[0])
    jobs = [*align.rates(), *align.methods(), *align.ablations(), *align.higher_rates()]
    assert len({job["name"] for job in jobs}) == len(jobs) > 100
    for job in jobs:
        assert AlignConfig.of({**job["options"], "method": job["method"], "seed": job["seed"]}).method == job["method"]


def test_grpo(monkeypatch, tmp_path):
    monkeypatch.setattr(after, "depth", lambda: 4)
    monkeypatch.setattr(after, "best_rate", lambda: after.RATES[0])
    jobs = [job for job in after.jobs() if job["verb"] == "grpo"]
    assert len(jobs) == len(after.SEEDS) * len(after.EXPERTS) * len(after.ROUTERS)
    for job in jobs:
        assert GrpoConfig.of(job["options"]).routers == job["options"]["routers"]


@pytest.mark.parametrize("name", ["narrow", "wide", "chosen"])
def test_sweeps(name):
    assert SweepRecipe.load(ROOT / "experiments" / "sparsity" / f"{name}.yaml").budget is not None


@pytest.mark.parametrize("path", ["couple/base.yaml", "saturation/recipe.yaml"])
def test_recipes(path):
    assert TrainRecipe.load(ROOT / "experiments" / path).model is not None
