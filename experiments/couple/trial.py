"""Train and measure one trial, given as JSON; run.py calls it. What it found goes to runs/couple/results/NAME.json."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import torch
from trials import HERE, RUNS, Trial

from turnout import audit
from turnout.coupling import CoupleConfig, measure_coupling, preparation
from turnout.embedded.build import train_tokenizer
from turnout.models.wrap.load import load
from turnout.runs import atomic
from turnout.training import RoutingCallback, TrainRecipe, train
from turnout.training.data import documents

VOCABULARY, DOCUMENTS = 1024, 5000


def main(trial: Trial) -> None:
    """Train, measure, write."""
    torch.set_num_threads(1)
    recipe = recipe_of(trial)
    ensure_tokenizer(recipe)
    start = time.monotonic()
    options = {"callbacks": [RoutingCallback()], "tokens_in": RUNS / "tokens"} | coupled(trial)
    trained = train(recipe, RUNS / trial.name, **options)
    found = {"seconds": time.monotonic() - start, "held_out": trained.losses}
    found |= committees(trained.model, trial)
    if not trial.architecture:
        found |= coupling(trained.model) | {"router_cosine": router_cosine(trained.model)}
    found |= {"along": along(trained.path)}
    atomic.write_bytes(RUNS / "results" / f"{trial.name}.json", json.dumps(vars(trial) | found).encode())


def recipe_of(trial: Trial) -> TrainRecipe:
    """base.yaml with the trial's seed, length and architecture."""
    base = TrainRecipe.load(HERE / "base.yaml")
    assert base.model is not None
    changed = {"seed": trial.seed, "schedule": base.schedule.model_copy(update={"tokens": trial.tokens})}
    if trial.architecture:
        changed["model"] = base.model.model_copy(update={"architecture": trial.architecture})
    return base.model_copy(update=changed)


def coupled(trial: Trial) -> dict[str, Any]:
    """The arguments of `train` that couple the trial's model, or only note its norms and M."""
    if trial.architecture:
        return {}
    options = {"weight": 0.0} if trial.couple is None else {"seed": trial.seed, **trial.couple}
    made = preparation(CoupleConfig.of(**options), RUNS / trial.norms_of if trial.norms_of else None)
    return {"prepare": made.prepare, "inputs": made.inputs}


def ensure_tokenizer(recipe: TrainRecipe) -> None:
    """A small tokenizer of the same text, made once."""
    if (recipe.data.tokenizer / "tokenizer.json").exists():
        return
    texts = (t for s in recipe.data.sources for t in documents(s, recipe.data.held_out, 0)["train"][:DOCUMENTS])
    assert recipe.model is not None
    train_tokenizer(texts, VOCABULARY, recipe.data.tokenizer, recipe.model.context)


def coupling(model: Path) -> dict[str, Any]:
    """Coupling after training, on clean R, layer by layer; and what the manipulation check looks at."""
    measured = measure_coupling(model)
    raw = measured.overall["raw"]
    return {
        "coupling": list(measured.layers),
        "loss_at_1": next(loss["mean"] for loss in raw["loss"] if loss["alpha"] == 1.0),
        "dominant_rows": raw["rows"]["mean"],
    }


def router_cosine(model: Path) -> float:
    """Mean |cos| between two rows of a router, over pairs and layers."""
    means = []
    for layer in load(model).layers:
        rows_EH = torch.nn.functional.normalize(layer.router.weight.detach().float(), dim=-1)
        cosine_EE = (rows_EH @ rows_EH.T).abs()
        apart_EE = ~torch.eye(len(rows_EH), dtype=torch.bool)
        means.append(float(cosine_EE[apart_EE].mean()))
    return sum(means) / len(means)


def committees(model: Path, trial: Trial) -> dict[str, Any]:
    """Accuracy by domain and the audit's figures over all tokens of worlds' test questions."""
    out = RUNS / "audits" / trial.name
    found = audit(model, "worlds", out, scope="all", answers=True, dtype="float32").to_dict()
    kept = ("coverage", "gini", "jaccard_mean", "claim", "candidates", "committee", "nulls")
    return {
        "accuracy": found["accuracy"],
        "overall": found["overall"],
        "audit": [{name: layer[name] for name in kept} for layer in found["layers"]],
    }


def along(run: Path) -> list[list[Any]]:
    """(step, metric, value) of what was logged while training."""
    metrics = pl.read_parquet(run / "tables" / "metrics.parquet")
    noted = r"^(loss|routing/balance|coupling/(erc|noise_bound|rows_dominant|router_norm|gate_norm))$"
    wanted = pl.col("metric").str.contains(noted)
    return [list(row) for row in metrics.filter(wanted).select("step", "metric", "value").iter_rows()]


if __name__ == "__main__":
    main(Trial(**json.loads(sys.argv[1])))
