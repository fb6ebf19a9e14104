"""One model of the balance experiment, given as JSON; run.py starts it."""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from experiments.balance.run import HERE, RUNS, STEPS
from experiments.shared.pool import write_result
from experiments.shared.training import KeepCheckpoints, ensure_tokenizer, logged
from turnout import RoutingCallback, TrainRecipe, audit, train

BASE = HERE.parent / "couple" / "base.yaml"
TOKENS = 2_048_000
METRICS = r"^(loss|held_out_loss|routing/(load_cv|dead_experts|load_entropy))$"
KEPT = ("coverage", "gini", "jaccard_mean", "claim", "candidates", "committee", "fallback", "nulls")


def main(job: dict[str, Any]) -> None:
    """Train, audit along the way, write."""
    torch.set_num_threads(1)
    base = TrainRecipe.load(BASE)
    schedule = base.schedule.model_copy(update={"tokens": TOKENS, "layer_balancing": job["weight"]})
    recipe = base.model_copy(update={"seed": job["seed"], "schedule": schedule})
    ensure_tokenizer(recipe)
    folder = RUNS / job["name"]
    callbacks = [RoutingCallback(), KeepCheckpoints(STEPS, lambda step: checkpoint(job, step))]
    trained = train(recipe, folder, callbacks=callbacks, tokens_in=RUNS / "tokens")
    audits = {f"all-{step}": audited(job, step, trained.model, "all") for step in STEPS}
    audits[f"last-{STEPS[-1]}"] = audited(job, STEPS[-1], trained.model, "last")
    content = {**job, "held_out": trained.losses, "audits": audits, "along": logged(folder, METRICS)}
    write_result(RUNS / "results", job["name"], content)


def checkpoint(job: dict[str, Any], step: int) -> Path:
    """Folder of the model at one step."""
    return RUNS / "steps" / job["name"] / f"step-{step}"


def audited(job: dict[str, Any], step: int, model: Path, scope: str) -> dict[str, Any]:
    """The audit of worlds' test questions at one step; the tokenizer is the trained model's."""
    from transformers import AutoTokenizer

    kept = checkpoint(job, step)
    AutoTokenizer.from_pretrained(model).save_pretrained(kept)
    out = RUNS / "audits" / f"{job['name']}-{scope}-{step}"
    result = audit(kept, "worlds", out, scope=scope, answers=True, dtype="float32").to_dict()
    layers = [{name: layer[name] for name in KEPT} for layer in result["layers"]]
    return {"accuracy": result["accuracy"], "overall": result["overall"], "layers": layers}


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
