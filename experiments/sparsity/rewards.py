"""Tables of GRPO and self-consistency by sparsity, from the results of after.py."""

import json
from typing import Any

import numpy as np
import polars as pl

from experiments.shared.markdown import table
from experiments.shared.pool import read_results
from experiments.sparsity.after import EXPERTS, LAST, RATES, RESULTS, ROUTERS, SEEDS
from experiments.sparsity.sweeps import slope, span
from turnout.sparsity.analysis.statistics import interval


def measured() -> pl.DataFrame:
    """One row a model, before and after GRPO: pass@1, majority and pass@128; greedy accuracy and rewards of GRPO."""
    results = read_results(RESULTS)
    rows: list[dict[str, Any]] = []
    for experts in EXPERTS:
        for seed in SEEDS:
            name, model = f"e{experts}-s{seed}", {"experts": experts, "seed": seed}
            if f"vote-before-{name}" in results:
                rows.append(model | {"routers": "before"} | vote_figures(results[f"vote-before-{name}"]))
            for routers in ROUTERS:
                after, tuned = results.get(f"vote-{routers}-{name}"), results.get(f"grpo-{routers}-{name}")
                if after is not None and tuned is not None:
                    rows.append(model | {"routers": routers} | vote_figures(after) | grpo_figures(tuned))
    return pl.DataFrame(rows, infer_schema_length=None)


def vote_figures(run: dict[str, Any]) -> dict[str, float]:
    """pass@n and majority at the first and the last number of samples."""
    first, last = run["votes"][0], run["votes"][-1]
    many = last["samples"]
    return {"pass@1": first["pass"], f"majority of {many}": last["majority"], f"pass@{many}": last["pass"]}


def grpo_figures(run: dict[str, Any]) -> dict[str, float]:
    """Greedy accuracy before and after, and the mean reward of the first and the last ten steps."""
    low, high = run["accuracy"]["interval"]
    return {
        "greedy before": run["accuracy"]["before"],
        "greedy after": run["accuracy"]["after"],
        "greedy gain low": low,
        "greedy gain high": high,
        "first reward": float(np.mean(run["reward"][:10])),
        "last reward": float(np.mean(run["reward"][-10:])),
    }


def by_sparsity(frame: pl.DataFrame) -> str:
    """Means over seeds by number of experts and routers, and the gain in pass@1."""
    rows = []
    for experts in EXPERTS:
        for routers in ("before", *ROUTERS):
            part = frame.filter(experts=experts, routers=routers).sort("seed")
            if part.height:
                cells = [f"{part[name].mean():.3f}" for name in ("pass@1", "majority of 128", "pass@128")]
                gain = [
                    after - start
                    for seed, after in part.select("seed", "pass@1").rows()
                    for start in frame.filter(experts=experts, routers="before", seed=seed)["pass@1"].to_list()
                ]
                change = "" if routers == "before" else span(interval(gain))
                rows.append([str(experts), routers, str(part.height), *cells, change])
    return table(["E", "routers", "seeds", "pass@1", "majority of 128", "pass@128", "pass@1, gain"], rows)


def gains(frame: pl.DataFrame) -> str:
    """Gains of voting and GRPO, and slopes along sparsity before and after; each figure has one value a seed."""
    at = {(row["routers"], row["experts"], row["seed"]): row for row in frame.iter_rows(named=True)}
    seeds = [s for s in SEEDS if all((of, e, s) in at for of in ("before", *ROUTERS) for e in EXPERTS)]
    if len(seeds) < 2:
        return ""

    def mean(of: str, name: str) -> np.ndarray:
        return np.array([np.mean([at[of, e, s][name] for e in EXPERTS]) for s in seeds])

    rows = [
        [
            "majority of 128 − pass@1, before",
            span(interval(mean("before", "majority of 128") - mean("before", "pass@1"))),
        ],
        ["pass@1: trained − before", span(interval(mean("trained", "pass@1") - mean("before", "pass@1")))],
        ["pass@1: trained − frozen", span(interval(mean("trained", "pass@1") - mean("frozen", "pass@1")))],
        ["pass@128: trained − before", span(interval(mean("trained", "pass@128") - mean("before", "pass@128")))],
    ]
    for of in ROUTERS:
        gain = mean(of, "greedy after") - mean(of, "greedy before")
        rows.append([f"greedy: {of} − before", span(interval(gain))])
    x_X = np.log2(EXPERTS)
    for of in ("before", *ROUTERS):
        y_SX = np.array([[at[of, e, s]["pass@1"] for e in EXPERTS] for s in seeds])
        rows.append([f"pass@1 per doubling of E, {of}", slope(x_X, y_SX)])
    return table(["mean over E, by seed", f"{len(seeds)} seeds [95 %]"], rows)


def all_votes() -> pl.DataFrame:
    """One row a vote and number of samples."""
    votes = {name: run["votes"] for name, run in read_results(RESULTS).items() if name.startswith("vote-")}
    names = ("samples", "pass", "majority")
    return pl.DataFrame(
        [{"vote": vote, **{key: row[key] for key in names}} for vote, rows in votes.items() for row in rows]
    )


def rates() -> pl.DataFrame:
    """One row a learning rate that GRPO was tried with."""
    rows = []
    for rate in RATES:
        file = RESULTS / f"rate-{rate:g}.json"
        if file.exists():
            run = json.loads(file.read_text())
            last = float(np.mean(run["reward"][-LAST:]))
            greedy = {f"greedy {when}": run["accuracy"][when] for when in ("before", "after")}
            rows.append({"rate": rate, f"reward, last {LAST}": last, **greedy})
    return pl.DataFrame(rows)
