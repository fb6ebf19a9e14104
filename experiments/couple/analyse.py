"""Tables of docs/findings/couple.md and results/* from the results of run.py.

    python -m experiments.couple.analyse

Every difference is paired by seed; intervals are two-sided 95 % t intervals of the paired differences.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl
import torch

from experiments.couple.trials import ALPHAS, ERC, HERE, PLACES, RUNS
from experiments.shared.intervals import paired
from experiments.shared.markdown import inject, sections, table
from experiments.shared.pool import read_results
from turnout import ops

DOCS = HERE.parents[1] / "docs" / "findings" / "couple.md"
Trials = dict[tuple[str, str, int], dict[str, Any]]
Measure = Callable[[dict[str, Any]], float]


def held_out(trial: dict[str, Any]) -> float:
    """Held-out loss, mean over sources, in nats per token."""
    return float(np.mean(list(trial["held_out"].values())))


def audited(name: str) -> Measure:
    """Mean over layers of a measure of the audit."""
    return lambda trial: float(trial["overall"][name]["mean"])


def at_end(metric: str) -> Measure:
    """Last value of a metric that was logged while training."""

    def last(trial: dict[str, Any]) -> float:
        values = [value for _, name, value in trial["along"] if name == metric]
        if not values:
            raise KeyError(metric)
        return float(values[-1])

    return last


MEASURES: dict[str, Measure] = {
    "held-out loss": held_out,
    "accuracy": lambda trial: trial["accuracy"]["overall"]["accuracy"],
    "L at α = 1": lambda trial: trial["loss_at_1"],
    "rows dominant": lambda trial: trial["dominant_rows"],
    "Gini": audited("gini"),
    "Jaccard": audited("jaccard_mean"),
    "coverage": audited("coverage"),
    "balance": at_end("routing/balance"),
    "ε": at_end("coupling/noise_bound"),
    "norm of R": at_end("coupling/router_norm"),
    "norm of W_g": at_end("coupling/gate_norm"),
    "router cosine": lambda trial: trial["router_cosine"],
}
OUTCOMES = ("held-out loss", "accuracy", "L at α = 1", "rows dominant", "Gini", "Jaccard", "coverage")
INNER = ("ε", "norm of R", "norm of W_g", "router cosine", "balance")
STEPS = (10, 50, 100, 200, 300, 400, 500)


def read() -> Trials:
    """Results by variant, length and seed."""
    trials = read_results(RUNS / "results").values()
    return {(x["variant"], "long" if x["tokens"] > 3e6 else "short", x["seed"]): x for x in trials}


def seeds(trials: Trials, variant: str, length: str) -> list[int]:
    """Seeds of a variant's trials."""
    return sorted(seed for name, size, seed in trials if (name, size) == (variant, length))


def differences(trials: Trials, a: str, b: str, length: str, measure: Measure) -> np.ndarray:
    """Differences a − b, one for each seed that both have.

    Raises:
        KeyError: a trial lacks the measure.
    """
    both = sorted(set(seeds(trials, a, length)) & set(seeds(trials, b, length)))
    return np.array([measure(trials[a, length, s]) - measure(trials[b, length, s]) for s in both])


def contrast(trials: Trials, a: str, b: str, length: str, name: str) -> dict[str, Any] | None:
    """A row of results/contrasts.csv; None without two pairs or where a trial lacks the measure."""
    try:
        values = differences(trials, a, b, length, MEASURES[name])
    except KeyError:  # Autonomy of Experts has no M
        return None
    if len(values) < 2:
        return None
    return {"a": a, "b": b, "length": length, "measure": name, "pairs": len(values)} | paired(values)


_CONTRASTS = {
    "a": pl.String,
    "b": pl.String,
    "length": pl.String,
    "measure": pl.String,
    "pairs": pl.Int64,
    **dict.fromkeys(("mean", "low", "high", "p", "detectable"), pl.Float64),
}


def contrasts(trials: Trials) -> pl.DataFrame:
    """Every variant against vanilla and ERC; contrasts fixed beforehand are marked, Holm over the other outcomes."""
    names = sorted({(name, length) for name, length, _ in trials})
    pairs = [(name, "vanilla", length) for name, length in names]  # each pair of variants once
    pairs += [(name, ERC, length) for name, length in names if name not in ("vanilla", "permuted")]
    pairs += [(ERC, "permuted", length) for name, length in names if name == "permuted"]
    rows = [contrast(trials, a, b, length, measure) for a, b, length in pairs if a != b for measure in MEASURES]
    frame = pl.DataFrame([row for row in rows if row], schema=_CONTRASTS, orient="row")
    of_erc = (pl.col("a") == ERC) & (pl.col("length") == "long")
    primary = (pl.col("b") == "vanilla") & pl.col("measure").is_in(["held-out loss", "Gini", "coverage"])
    second = (pl.col("b") == "permuted") & (pl.col("measure") == "held-out loss")
    frame = frame.with_columns(fixed=of_erc & (primary | second))
    tested = ~pl.col("fixed") & pl.col("measure").is_in(OUTCOMES)
    p = torch.tensor(frame.filter(tested)["p"].to_list(), dtype=torch.float64)
    rest = frame.filter(tested).with_columns(holm=pl.Series(ops.holm(p).tolist() if len(p) else [], dtype=pl.Float64))
    return pl.concat([frame.filter("fixed"), rest, frame.filter(~tested & ~pl.col("fixed"))], how="diagonal")


def runs(trials: Trials) -> pl.DataFrame:
    """One row a trial: its settings and every measure."""
    rows = []
    for (name, length, seed), x in sorted(trials.items()):
        row: dict[str, Any] = {"variant": name, "length": length, "seed": seed, "couple": json.dumps(x["couple"])}
        for measure, of in MEASURES.items():
            row[measure] = _or_none(of, x)
        row |= {f"loss {source}": value for source, value in x["held_out"].items()}
        row |= {f"accuracy {domain}": value["accuracy"] for domain, value in x["accuracy"]["domains"].items()}
        rows.append(row | {"verdicts": " ".join(layer["claim"]["verdict"].replace(" ", "-") for layer in x["audit"])})
    return pl.DataFrame(rows)


def along(trials: Trials) -> pl.DataFrame:
    """Metrics logged while training: one row a trial, metric and step."""
    rows = [
        (name, length, seed, step, metric, value)
        for (name, length, seed), x in sorted(trials.items())
        for step, metric, value in x["along"]
    ]
    names = ["variant", "length", "seed", "step", "metric", "value"]
    return pl.DataFrame(rows, schema=names, orient="row").with_columns(pl.col("value").cast(pl.Float32))


def _or_none(of: Measure, trial: dict[str, Any]) -> float | None:
    try:
        return of(trial)
    except KeyError:
        return None


def _signed(value: float) -> str:
    return f"{value:+.4f}" if abs(value) >= 0.001 or value == 0 else f"{value:+.1e}"


def mean_of(trials: Trials, variant: str, length: str, name: str) -> str:
    """Mean over seeds; a dash if no seed has the measure."""
    values = [_or_none(MEASURES[name], trials[variant, length, s]) for s in seeds(trials, variant, length)]
    known = [v for v in values if v is not None]
    return f"{np.mean(known):.4f}" if known else "–"


def manipulation(trials: Trials) -> str:
    """Table of part 1, the manipulation check."""
    names = ["vanilla", *(f"{ERC}-weight{w}{n}" for n in ("", "-normalised") for w in (1, 10, 100))]
    shown = ("L at α = 1", "rows dominant", "held-out loss")
    rows = [
        [name, *(f"{MEASURES[m](trials[name, 'short', 0]):.5f}" for m in shown)]
        for name in names
        if (name, "short", 0) in trials
    ]
    return table(["setting (short, seed 0)", *shown], rows)


def means(trials: Trials, length: str, variants: Sequence[str], shown: Sequence[str] = OUTCOMES) -> str:
    """Means over seeds by variant."""
    known = [v for v in variants if seeds(trials, v, length)]
    rows = [[v, str(len(seeds(trials, v, length))), *(mean_of(trials, v, length, m) for m in shown)] for v in known]
    return table([f"variant ({length})", "seeds", *shown], rows)


def bounds_along(trials: Trials, variants: Sequence[str]) -> str:
    """Mean ε over layers and seeds at some steps."""
    rows = []
    for name in variants:
        mine = [trials[name, "short", seed] for seed in seeds(trials, name, "short")]
        bounds = [{step: value for step, metric, value in x["along"] if metric == "coupling/noise_bound"} for x in mine]
        if bounds:
            rows.append([name, *(f"{np.mean([bound[step] for bound in bounds]):.3f}" for step in STEPS)])
    return table(["ε at step", *map(str, STEPS)], rows)


def differ(frame: pl.DataFrame, length: str, base: str, variants: Sequence[str], shown: Sequence[str]) -> str:
    """Differences to `base` with intervals, p and the minimum detectable difference."""
    part = frame.filter(length=length, b=base).filter(pl.col("a").is_in(variants) & pl.col("measure").is_in(shown))
    rows = [
        [
            f"{row['a']} − {base}",
            row["measure"],
            str(row["pairs"]),
            f"{_signed(row['mean'])} [{_signed(row['low'])}, {_signed(row['high'])}]",
            f"{row['p']:.3g}",
            "fixed beforehand" if row["fixed"] else "–" if row["holm"] is None else f"{row['holm']:.3g}",
            _signed(row["detectable"])[1:],
        ]
        for row in part.sort(["measure", "a"]).iter_rows(named=True)
    ]
    return table(["contrast", "measure", "pairs", "difference [95 %]", "p", "Holm", "detectable (80 %)"], rows)


def main() -> None:
    """Write the tables."""
    trials = read()
    frame = contrasts(trials)
    (HERE / "results").mkdir(exist_ok=True)
    runs(trials).write_csv(HERE / "results" / "runs.csv", float_precision=6)
    frame.write_csv(HERE / "results" / "contrasts.csv", float_precision=6)
    along(trials).write_parquet(HERE / "results" / "along.parquet", compression="zstd")
    seven = ("vanilla", ERC, "permuted", "no-noise", "orthogonality", "norm-matched", "aoe")
    by_alpha = [ERC if alpha == 1 else f"{ERC}-alpha{alpha}" for alpha in ALPHAS]
    by_place = [f"{ERC}-{place}" for place in PLACES]
    outcome = ("held-out loss", "Gini", "Jaccard", "coverage")
    main_pairs, short_pairs = (frame.filter(length=length, b="vanilla").height for length in ("long", "short"))
    parts = [
        ("The manipulation", manipulation(trials)),
        ("The three main variants", means(trials, "long", seven) if main_pairs else ""),
        ("", differ(frame, "long", "vanilla", seven, outcome)),
        ("", differ(frame, "long", "permuted", (ERC,), outcome)),
        ("All seven, short", means(trials, "short", seven) if short_pairs else ""),
        ("", differ(frame, "short", "vanilla", seven, outcome)),
        ("Inside", means(trials, "short", seven, INNER)),
        ("", differ(frame, "short", "vanilla", seven, ("balance", "router cosine"))),
        ("α", means(trials, "short", by_alpha)),
        ("", differ(frame, "short", "vanilla", by_alpha, ("held-out loss",))),
        ("", bounds_along(trials, ["vanilla", *by_alpha])),
        ("Where M is read", means(trials, "short", [ERC, *by_place])),
        ("", differ(frame, "short", "vanilla", [ERC, *by_place], ("held-out loss",))),
    ]
    text = sections(parts)
    inject(DOCS, "experiments/couple/analyse.py", text)
    print(text)


if __name__ == "__main__":
    main()
