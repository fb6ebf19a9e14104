"""results/* and tables for docs/findings/index.md from what run.py measured: `python experiments/balance/analyse.py`.

Every difference is to weight 0, paired by seed, with a two-sided 95 % t interval.
"""

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import polars as pl
import torch
from run import HERE, RESULTS, STEPS, WEIGHTS
from scipy.stats import nct, t

from turnout import ops

Measure = Callable[[dict[str, Any]], float]
LAST, PRIMARY = STEPS[-1], 0.01


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
            **{f"accuracy {domain}": one["accuracy"] for domain, one in _domains(by[weight, seed]).items()},
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
            fixed = weight == PRIMARY and name in ("held-out loss", "gini (all)")
            row = {"weight": weight, "measure": name, "pairs": len(pairs), "fixed": fixed}
            differences.append(row | {"mean": float(values.mean()), **_interval(values)})
    rest = [one for one in differences if not one["fixed"]]
    adjusted = ops.holm(torch.tensor([one["p"] for one in rest], dtype=torch.float64)).tolist() if rest else []
    holm = dict(zip(map(id, rest), adjusted, strict=True))
    differences = [one | {"holm": holm.get(id(one))} for one in differences]
    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    pl.DataFrame(rows).write_csv(folder / "runs.csv", float_precision=6)
    if differences:
        pl.DataFrame(differences).write_csv(folder / "differences.csv", float_precision=6)
    audits = pl.DataFrame([row for one in found for row in _audits(one)], infer_schema_length=None)
    audits.write_csv(folder / "audits.csv", float_precision=4)
    along = [(one["weight"], one["seed"], *entry) for one in found for entry in one["along"]]
    names = ["weight", "seed", "step", "metric", "value"]
    kept = pl.DataFrame(along, schema=names, orient="row").with_columns(pl.col("value").cast(pl.Float32))
    kept.write_parquet(folder / "along.parquet", compression="zstd")
    _print(differences, audits)


def _print(differences: list[dict[str, Any]], audits: pl.DataFrame) -> None:
    """The tables, in Markdown."""
    for one in differences:
        interval = f"{one['mean']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}]"
        holm = "primary" if one["holm"] is None else f"{one['holm']:.2g}"
        print(
            f"| {one['weight']:g} | {one['measure']} | {one['pairs']} | {interval} | {holm} | {one['detectable']:.4f} |"
        )
    print()
    means = [pl.col(name).mean().round(3) for name in ("gini", "jaccard", "coverage", "rotated gini")]
    committees = pl.col("verdict").is_in(["core", "dominant committee"]).sum().alias("committees")
    by_step = audits.group_by("scope", "step", "weight").agg(*means, committees, pl.len().alias("layers"))
    for row in by_step.sort("scope", "step", "weight").iter_rows():
        print(f"| {' | '.join('–' if cell is None else str(cell) for cell in row)} |")


def _domains(one: dict[str, Any]) -> dict[str, Any]:
    """Accuracy on worlds by domain."""
    return one["audits"][f"all-{LAST}"]["accuracy"]["domains"]


def _audits(one: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row a step and layer: each figure, and the null that it is held against."""
    for name, audit in one["audits"].items():
        scope, step = name.split("-")
        for number, layer in enumerate(audit["layers"]):
            nulls, size = layer["nulls"], len(layer["candidates"])
            signal, rotated = nulls["domain_signal"], nulls["rotated"]
            yield {
                "weight": one["weight"],
                "seed": one["seed"],
                "scope": scope,
                "step": int(step),
                "layer": number,
                "gini": layer["gini"],
                "rotated gini": rotated["gini"]["mean"] if "gini" in rotated else None,
                "rotated gini 95": rotated["gini"]["q95"] if "gini" in rotated else None,
                "jaccard": layer["jaccard_mean"],
                "jaccard ceiling": signal["jaccard_ceiling"],
                "coverage": layer["coverage"],
                "candidates": size,
                "candidates' coverage": (layer["claim"]["parts"]["above_floor"] or {}).get("value"),
                "floor": (layer["claim"]["parts"]["above_floor"] or {}).get("threshold"),
                "rotated coverage 95": rotated["coverage_of_largest_q95"][size - 1] if "gini" in rotated else None,
                "domain information, bits": signal["mutual_information"]["value"],
                "its permutations 95": signal["mutual_information"]["null_q95"],
                "verdict": layer["claim"]["verdict"],
                "failed": " ".join(layer["claim"]["failed"]),
            }


def _claims(one: dict[str, Any]) -> dict[str, str]:
    """Each scope's verdicts, layer by layer."""
    return {
        f"claim ({scope})": " / ".join(
            layer["claim"]["verdict"] for layer in one["audits"][f"{scope}-{LAST}"]["layers"]
        )
        for scope in ("all", "last")
    }


def _interval(values: np.ndarray) -> dict[str, float]:
    """95 % t interval, p of no difference, and the least difference that so many pairs find with 80 % power."""
    n, sd = len(values), float(values.std(ddof=1))
    quantile = float(t.ppf(0.975, n - 1))
    half = quantile * sd / math.sqrt(n)
    effects = np.linspace(0, 50, 20001)
    power = 1 - nct.cdf(quantile, n - 1, effects * math.sqrt(n))
    if not sd:
        return {"low": float(values.mean()), "high": float(values.mean()), "p": 1.0, "detectable": 0.0}
    return {
        "p": float(2 * t.sf(abs(values.mean()) / (sd / math.sqrt(n)), n - 1)),
        "low": float(values.mean()) - half,
        "high": float(values.mean()) + half,
        "detectable": float(effects[(power > 0.8).argmax()]) * sd,
    }


if __name__ == "__main__":
    main()
