"""Synthetic sweep.json: known curves, five seeds, seven numbers of experts."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from turnout.ops import parameters

EXPERTS = (2, 4, 8, 16, 32, 64, 128)
Curve = Callable[[float], float]
"""log2 of the experts → nats a token."""


def u_shaped(x: float) -> float:
    """Least at 16 experts."""
    return 1.2 + 0.06 * (x - 4) ** 2


def falling(x: float) -> float:
    """Decreasing everywhere."""
    return 2.4 - 0.15 * x


def trial(
    seed: int, experts: int, losses: dict[str, float], *, top_k: int = 2, width: int = 64, rate: float = 0.003
) -> dict[str, Any]:
    """One trial; accuracy and training loss follow from the task losses."""
    dense = experts == 1
    body = 2 * width * (top_k if dense else 1)
    counted = parameters(
        width=width, layers=2, experts=experts, top_k=1 if dense else top_k, vocab=512, expert_width=body
    )
    name = f"d{width}-l2-{'dense' if dense else f'e{experts}-k{top_k}'}-i{body}-lr{rate:g}"
    tasks = {
        task: {"n": 200, "nats_per_token": loss, "nats_per_byte": loss / 3, "accuracy": float(np.exp(-loss))}
        for task, loss in losses.items()
    }
    overall = {"gini": 0.2 + 0.05 * np.log2(experts), "coverage": 0.5, "jaccard_mean": 0.9 - 0.02 * seed}
    return {
        "name": f"{name}-s{seed}",
        "shape": name,
        "seed": seed,
        "hidden_size": width,
        "layers": 2,
        "experts": experts,
        "top_k": 1 if dense else top_k,
        "expert_width": body,
        "dense": dense,
        "sparsity": 1 - (1 if dense else top_k) / experts,
        "learning_rate": rate,
        "initializer_range": None,
        "tokens": 10_000_000,
        "parameters": {name: getattr(counted, name) for name in counted.__dataclass_fields__},
        "flops": 1e13,
        "tpp": 10_000_000 / counted.total,
        "found": {
            "held_out_loss": {},
            "training_loss": 2.5 - 0.1 * np.log2(experts) + 0.01 * seed,
            "tasks": tasks,
            "audit": None if dense else {"overall": {key: {"mean": float(mean)} for key, mean in overall.items()}},
        },
        "error": None,
    }


def swept(
    curves: dict[str, Curve],
    *,
    seeds: Iterable[int] = range(5),
    experts: Iterable[int] = EXPERTS,
    noise: float = 0.02,
    **shape: Any,
) -> list[dict[str, Any]]:
    """Trials of every number of experts and seed: each seed with an offset, each trial with noise of its own."""
    trials = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        offset = rng.normal(0, 0.2)
        for number in experts:
            x = float(np.log2(number))
            losses = {task: curve(x) + offset + rng.normal(0, noise) for task, curve in curves.items()}
            trials.append(trial(seed, number, losses, **shape))
    return trials


def sweep(*groups: list[dict[str, Any]]) -> dict[str, Any]:
    """sweep.json's content."""
    return {"schema": 1, "left_out": [], "trials": [one for group in groups for one in group]}
