"""One model of the balance experiment, given as JSON; run.py calls it."""

import json
import sys
from pathlib import Path
from typing import Any

import polars as pl
import torch
from run import HERE, RUNS, STEPS
from transformers import TrainerCallback, TrainerState

from turnout import audit
from turnout.embedded.build import train_tokenizer
from turnout.runs import atomic
from turnout.training import RoutingCallback, TrainRecipe, train
from turnout.training.data import documents

BASE = HERE.parent / "couple" / "base.yaml"
TOKENS, VOCABULARY, DOCUMENTS = 2_048_000, 1024, 5000
KEPT = ("coverage", "gini", "jaccard_mean", "claim", "candidates", "committee", "fallback", "nulls")


class KeepSteps(TrainerCallback):  # type: ignore[misc]  # Any: transformers ships no types
    """Saves the model, alone, at the steps that are audited."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def on_step_end(self, _args: Any, state: TrainerState, _control: Any, model: Any = None, **_: Any) -> None:
        """Called after each optimiser step."""
        if state.global_step in STEPS:
            model.save_pretrained(self._folder / f"step-{state.global_step}")


def main(job: dict[str, Any]) -> None:
    """Train, audit along the way, write."""
    torch.set_num_threads(1)
    base = TrainRecipe.load(BASE)
    schedule = base.schedule.model_copy(update={"tokens": TOKENS, "balancing": job["weight"]})
    recipe = base.model_copy(update={"seed": job["seed"], "schedule": schedule})
    ensure_tokenizer(recipe)
    folder = RUNS / job["name"]
    callbacks = [RoutingCallback(), KeepSteps(RUNS / "steps" / job["name"])]
    trained = train(recipe, folder, callbacks=callbacks, tokens_in=RUNS / "tokens")
    audits = {f"all-{step}": audited(job, step, trained.model, "all") for step in STEPS}
    audits[f"last-{STEPS[-1]}"] = audited(job, STEPS[-1], trained.model, "last")
    content = {**job, "held_out": trained.losses, "audits": audits, "along": along(folder)}
    atomic.write_bytes(RUNS / "results" / f"{job['name']}.json", json.dumps(content).encode())


def ensure_tokenizer(recipe: TrainRecipe) -> None:
    """The small tokenizer that the coupling experiment uses too, made once."""
    if (recipe.data.tokenizer / "tokenizer.json").exists():
        return
    texts = (t for s in recipe.data.sources for t in documents(s, recipe.data.held_out, 0)["train"][:DOCUMENTS])
    assert recipe.model is not None
    train_tokenizer(texts, VOCABULARY, recipe.data.tokenizer, recipe.model.context)


def audited(job: dict[str, Any], step: int, model: Path, scope: str) -> dict[str, Any]:
    """The audit of worlds' test questions at one step; the tokenizer is the trained model's."""
    from transformers import AutoTokenizer

    kept = RUNS / "steps" / job["name"] / f"step-{step}"
    AutoTokenizer.from_pretrained(model).save_pretrained(kept)
    out = RUNS / "audits" / f"{job['name']}-{scope}-{step}"
    found = audit(kept, "worlds", out, scope=scope, answers=True, dtype="float32").to_dict()
    layers = [{name: layer[name] for name in KEPT} for layer in found["layers"]]
    return {"accuracy": found["accuracy"], "overall": found["overall"], "layers": layers}


def along(run: Path) -> list[list[Any]]:
    """(step, metric, value) of load and loss while training."""
    metrics = pl.read_parquet(run / "tables" / "metrics.parquet")
    wanted = pl.col("metric").str.contains(r"^(loss|held_out_loss|routing/(load_cv|dead_experts|load_entropy))$")
    return [list(row) for row in metrics.filter(wanted).select("step", "metric", "value").iter_rows()]


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
