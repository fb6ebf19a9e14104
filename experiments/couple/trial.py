"""Train and measure one trial, given as JSON; run.py starts it. The result is runs/couple/results/NAME.json."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from experiments.couple.trials import HERE, RUNS, Trial
from experiments.shared.pool import write_result
from experiments.shared.training import ensure_tokenizer, logged
from turnout import CoupleConfig, RoutingCallback, TrainRecipe, audit, measure_coupling, train
from turnout.models.wrap.load import load

METRICS = r"^(loss|routing/balance|coupling/(erc|noise_bound|rows_dominant|router_norm|gate_norm))$"


def main(trial: Trial) -> None:
    """Train, measure, write."""
    torch.set_num_threads(1)
    recipe = recipe_of(trial)
    ensure_tokenizer(recipe)
    start = time.monotonic()
    options = {"callbacks": [RoutingCallback()], "tokens_in": RUNS / "tokens"} | coupled(trial)
    trained = train(recipe, RUNS / trial.name, **options)
    result = {"seconds": time.monotonic() - start, "held_out": trained.losses}
    result |= committees(trained.model, trial)
    if not trial.architecture:
        result |= coupling(trained.model) | {"router_cosine": router_cosine(trained.model)}
    result |= {"along": logged(trained.path, METRICS)}
    write_result(RUNS / "results", trial.name, vars(trial) | result)


def recipe_of(trial: Trial) -> TrainRecipe:
    """base.yaml with the trial's seed, length and architecture."""
    base = TrainRecipe.load(HERE / "base.yaml")
    assert base.model is not None
    changed = {"seed": trial.seed, "schedule": base.schedule.model_copy(update={"tokens": trial.tokens})}
    if trial.architecture:
        changed["model"] = base.model.model_copy(update={"architecture": trial.architecture})
    return base.model_copy(update=changed)


def coupled(trial: Trial) -> dict[str, Any]:
    """Arguments of `train` that couple the trial's model, or only log its norms and M."""
    if trial.architecture:
        return {}
    options = {"weight": 0.0} if trial.couple is None else {"seed": trial.seed, **trial.couple}
    return {"erc": CoupleConfig.of(options), "match_norms": RUNS / trial.norms_of if trial.norms_of else None}


def coupling(model: Path) -> dict[str, Any]:
    """Coupling after training on clean R, layer by layer, and the two figures of the manipulation check."""
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
    """Accuracy by domain and the audit over all tokens of worlds' test questions."""
    out = RUNS / "audits" / trial.name
    audited = audit(model, "worlds", out, scope="all", answers=True, dtype="float32").to_dict()
    kept = ("coverage", "gini", "jaccard_mean", "claim", "candidates", "committee", "nulls")
    return {
        "accuracy": audited["accuracy"],
        "overall": audited["overall"],
        "audit": [{name: layer[name] for name in kept} for layer in audited["layers"]],
    }


if __name__ == "__main__":
    main(Trial(**json.loads(sys.argv[1])))
