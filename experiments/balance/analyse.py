"""results/*.csv and a table for docs/findings.md from what run.py measured: `python experiments/balance/analyse.py`.

Every difference is to weight 0, paired by seed, with a two-sided 95 % t interval.
"""

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
from run import HERE, RESULTS, STEPS, WEIGHTS
from scipy.stats import nct, t

Measure = Callable[[dict[str, Any]], float]
LAST = STEPS[-1]


def audited(scope: str, name: str) -> Measure:
    """Mean over layers of an audit's figure at the end."""
    return lambda one: float(one["audits"][f"{scope}-{LAST}"]["overall"][name]["mean"])


def final(metric: str) -> Measure:
    """The last logged value of a metric."""
    return lambda one: [value for _, name, value in one["along"] if name == metric][-1]


MEASURES: dict[str, Measure] = {
    "held-out loss": lambda one: float(np.mean(list(one["held_out"].values()))),
    "load, coefficient of variation": final("routing/load_cv"),
    "dead experts": final("routing/dead_experts"),
    "accuracy": lambda one: one["audits"][f"all-{LAST}"]["accuracy"]["overall"]["accuracy"],
    **{
        f"{name} ({scope})": audited(scope, name)
        for scope in ("all", "last")
        for name in ("gini", "jaccard_mean", "coverage")
    },
}


def main() -> None:
    """Write the tables."""
    found = [json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))]
    by = {(one["weight"], one["seed"]): one for one in found}
    seeds = sorted({seed for _, seed in by})
    rows = [
        {
            "weight": weight,
            "seed": seed,
            **{name: of(by[weight, seed]) for name, of in MEASURES.items()},
            **_claims(by[weight, seed]),
        }
        for weight in WEIGHTS
        for seed in seeds
        if (weight, seed) in by
    ]
    differences = []
    for weight in WEIGHTS[1:]:
        pairs = [seed for seed in seeds if (weight, seed) in by and (0.0, seed) in by]
        for name, of in MEASURES.items() if len(pairs) > 1 else ():
            values = np.array([of(by[weight, seed]) - of(by[0.0, seed]) for seed in pairs])
            differences.append({"weight": weight, "measure": name, "pairs": len(pairs), **_interval(values)})
    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    pl.DataFrame(rows).write_csv(folder / "runs.csv", float_precision=6)
    if differences:
        pl.DataFrame(differences).write_csv(folder / "differences.csv", float_precision=6)
    for one in differences:
        interval = f"{one['mean']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}]"
        print(f"| {one['weight']:g} | {one['measure']} | {one['pairs']} | {interval} | {one['detectable']:.4f} |")


def _claims(one: dict[str, Any]) -> dict[str, str]:
    """Each scope's verdicts, layer by layer."""
    return {
        f"claim ({scope})": " / ".join(
            layer["claim"]["verdict"] for layer in one["audits"][f"{scope}-{LAST}"]["layers"]
        )
        for scope in ("all", "last")
    }


def _interval(values: np.ndarray) -> dict[str, float]:
    """Mean, 95 % t interval, and the least difference that so many pairs find with 80 % power."""
    n, sd = len(values), float(values.std(ddof=1))
    quantile = float(t.ppf(0.975, n - 1))
    half = quantile * sd / math.sqrt(n)
    effects = np.linspace(0, 50, 20001)
    power = 1 - nct.cdf(quantile, n - 1, effects * math.sqrt(n))
    return {
        "mean": float(values.mean()),
        "low": float(values.mean()) - half,
        "high": float(values.mean()) + half,
        "detectable": float(effects[(power > 0.8).argmax()]) * sd,
    }


if __name__ == "__main__":
    main()
