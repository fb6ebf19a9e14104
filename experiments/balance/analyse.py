"""results/* and tables for docs/findings/index.md from the results of run.py.

    python -m experiments.balance.analyse

Every difference is to weight 0, paired by seed, with a two-sided 95 % t interval.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import polars as pl
import torch

from experiments.balance.run import HERE, RESULTS, STEPS, WEIGHTS
from experiments.shared.intervals import paired, signed
from experiments.shared.markdown import table
from experiments.shared.pool import read_results
from turnout import ops

Measure = Callable[[dict[str, Any]], float]
Trials = dict[tuple[float, int], dict[str, Any]]
"""Results by weight and seed."""
LAST, PRIMARY = STEPS[-1], 0.01
COLUMNS = ("weight", "measure", "pairs", "fixed", "mean", "p", "low", "high", "detectable", "holm")
ROUNDING = 0.0025  # standard deviations that a detectable difference is rounded up to


def audited(scope: str, name: str) -> Measure:
    """Mean over layers of a measure of the last audit."""
    return lambda one: float(one["audits"][f"{scope}-{LAST}"]["overall"][name]["mean"])


def final(metric: str) -> Measure:
    """Last logged value of a metric."""
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
    """Write and print the tables."""
    trials = list(read_results(RESULTS).values())
    by = {(one["weight"], one["seed"]): one for one in trials}
    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    pl.DataFrame(runs(by)).write_csv(folder / "runs.csv", float_precision=6)
    differences = contrasts(by)
    if differences:
        pl.DataFrame(differences).select(COLUMNS).write_csv(folder / "differences.csv", float_precision=6)
    audits = pl.DataFrame([row for one in trials for row in audit_rows(one)], infer_schema_length=None)
    audits.write_csv(folder / "audits.csv", float_precision=4)
    along = [(one["weight"], one["seed"], *entry) for one in trials for entry in one["along"]]
    names = ["weight", "seed", "step", "metric", "value"]
    kept = pl.DataFrame(along, schema=names, orient="row").with_columns(pl.col("value").cast(pl.Float32))
    kept.write_parquet(folder / "along.parquet", compression="zstd")
    print_tables(differences, audits)


def runs(by: Trials) -> list[dict[str, Any]]:
    """One row a model: every measure, accuracy by domain, verdicts."""
    return [
        {
            "weight": weight,
            "seed": seed,
            **{name: of(by[weight, seed]) for name, of in MEASURES.items()},
            **{f"accuracy {domain}": one["accuracy"] for domain, one in _domains(by[weight, seed]).items()},
            **_claims(by[weight, seed]),
        }
        for weight in WEIGHTS
        for seed in sorted({seed for _, seed in by})
        if (weight, seed) in by
    ]


def contrasts(by: Trials) -> list[dict[str, Any]]:
    """One row a weight and measure: the difference to weight 0; Holm over those that were not fixed beforehand."""
    differences = []
    for weight in WEIGHTS[1:]:
        pairs = [seed for seed in sorted({seed for _, seed in by}) if (weight, seed) in by and (0.0, seed) in by]
        for name, of in MEASURES.items() if len(pairs) > 1 else ():
            values = np.array([of(by[weight, seed]) - of(by[0.0, seed]) for seed in pairs])
            fixed = weight == PRIMARY and name in ("held-out loss", "gini (all)")
            row = {"weight": weight, "measure": name, "pairs": len(pairs), "fixed": fixed}
            differences.append(row | paired(values, step=ROUNDING))
    rest = [one for one in differences if not one["fixed"]]
    adjusted = ops.holm(torch.tensor([one["p"] for one in rest], dtype=torch.float64)).tolist() if rest else []
    holm = dict(zip(map(id, rest), adjusted, strict=True))
    return [one | {"holm": holm.get(id(one))} for one in differences]


def print_tables(differences: list[dict[str, Any]], audits: pl.DataFrame) -> None:
    """Print differences, and the audits by step, as Markdown."""
    rows = [
        [
            f"{one['weight']:g}",
            one["measure"],
            str(one["pairs"]),
            signed(one["mean"], one["low"], one["high"]),
            "primary" if one["holm"] is None else f"{one['holm']:.2g}",
            f"{one['detectable']:.4f}",
        ]
        for one in differences
    ]
    print(table(["weight", "measure", "pairs", "difference [95 %]", "Holm", "detectable (80 %)"], rows))
    means = [pl.col(name).mean().round(3) for name in ("gini", "jaccard", "coverage", "rotated gini")]
    committees = pl.col("verdict").is_in(["core", "dominant committee"]).sum().alias("committees")
    by_step = audits.group_by("scope", "step", "weight").agg(*means, committees, pl.len().alias("layers"))
    by_step = by_step.sort("scope", "step", "weight")
    rows = [["–" if cell is None else str(cell) for cell in row] for row in by_step.iter_rows()]
    print(table(by_step.columns, rows))


def _domains(one: dict[str, Any]) -> dict[str, Any]:
    """Accuracy on worlds by domain."""
    return one["audits"][f"all-{LAST}"]["accuracy"]["domains"]


def audit_rows(one: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row a step and layer: each measure with its null."""
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
    """Verdicts of each scope, layer by layer."""
    return {
        f"claim ({scope})": " / ".join(
            layer["claim"]["verdict"] for layer in one["audits"][f"{scope}-{LAST}"]["layers"]
        )
        for scope in ("all", "last")
    }


if __name__ == "__main__":
    main()
