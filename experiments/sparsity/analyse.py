"""Tables of docs/findings/sparsity.md and results/* of the sweeps: `python experiments/sparsity/analyse.py`.

The two primary tests are those of PLAN.md; everything else describes. Intervals over seeds are t intervals, 95 %. Those
of the two lines' slopes have bounds of 95 % each (90 % together): the test is one-sided on either side.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from after import EXPERTS, LAST, LOOK, NARROW, RATES, RESULTS, ROUTERS, SEEDS, look_seed
from scipy.stats import t

from turnout.sparsity.analysis.frontier import frontier
from turnout.sparsity.analysis.statistics import generalisation_gap, interval, loss_accuracy_gap, optimum, two_lines
from turnout.sparsity.sweep.result import SweepResult

HERE = Path(__file__).parent
WIDE, CHOSEN = NARROW.with_name("wide"), NARROW.with_name("chosen")
DOCS = HERE.parents[1] / "docs" / "findings" / "sparsity.md"
BEGIN, END = "<!-- results: written by experiments/sparsity/analyse.py -->\n", "<!-- end of results -->"
TAUGHT, SHOWN, MARGIN = range(1, 13), (4, 6, 8, 10, 13), 0.01
Trial = dict[str, Any]
Measure = Callable[[Trial], float]


def mean_chains(name: str) -> Measure:
    """Over the depths that were taught."""
    return lambda trial: float(np.mean([trial["found"]["tasks"][f"chains-{n}"][name] for n in TAUGHT]))


def fact(name: str) -> Measure:
    """Of facts."""
    return lambda trial: float(trial["found"]["tasks"]["facts"][name])


def audited(name: str) -> Measure:
    """Mean over layers."""
    return lambda trial: float(trial["found"]["audit"]["overall"][name]["mean"])


MEASURES: dict[str, Measure] = {
    "training loss": lambda trial: float(trial["found"]["training_loss"]),
    "facts: accuracy": fact("accuracy"),
    "facts: bits a parameter": fact("bits_per_parameter"),
    "chains: task loss": mean_chains("nats_per_token"),
    "chains: accuracy": mean_chains("accuracy"),
    **{f"chains-{n}: accuracy": (lambda trial, n=n: trial["found"]["tasks"][f"chains-{n}"]["accuracy"]) for n in SHOWN},
}
AUDIT = {"Gini": audited("gini"), "coverage": audited("coverage"), "Jaccard": audited("jaccard_mean")}
PRIMARY = (("facts: accuracy", -1), ("chains: task loss", 1))  # sign: what is better is less


def trials(sweep: Path) -> dict[tuple[int, int], Trial]:
    """Those that did not fail, by experts (1: dense) and seed."""
    found = SweepResult.load(sweep).trials
    return {(trial["experts"], trial["seed"]): trial for trial in found if trial["error"] is None}


def complete(by: dict[tuple[int, int], Trial], experts: Sequence[int]) -> list[int]:
    """Seeds that have all of `experts`."""
    return [seed for seed in sorted({seed for _, seed in by}) if all((e, seed) in by for e in experts)]


def shared(one: dict[tuple[int, int], Trial], other: dict[tuple[int, int], Trial]) -> tuple[list[int], list[int]]:
    """Experts that both have, and the seeds that have all of them in both."""
    experts = sorted({e for e, _ in one if e > 1} & {e for e, _ in other if e > 1})
    return experts, sorted(set(complete(one, experts)) & set(complete(other, experts)))


def curve(by: dict[tuple[int, int], Trial], of: Measure) -> tuple[np.ndarray, np.ndarray]:
    """log2 of the experts [X], and values [S, X] of the seeds that are complete."""
    experts = sorted({e for e, _ in by if e > 1})
    return np.log2(experts), np.array([[of(by[e, s]) for e in experts] for s in complete(by, experts)])


def primary(by: dict[tuple[int, int], Trial], budget: str) -> list[dict[str, Any]]:
    """The two questions of PLAN.md, with the optimum."""
    rows = []
    for name, sign in PRIMARY:
        x_X, y_SX = curve(by, MEASURES[name])
        row: dict[str, Any] = {"budget": budget, "question": name, "seeds": len(y_SX), "points": len(x_X)}
        if len(y_SX) >= 3 and len(x_X) >= 4:
            tested = two_lines(x_X, sign * y_SX, MARGIN)
            row |= {"verdict": tested.verdict, "breaks": " ".join(f"{2**x:.0f}" for x in tested.breaks)}
            for side, slope in (("left", tested.left), ("right", tested.right)):
                row |= {f"{side} slope": sign * slope.mean, f"{side} p": slope.p}
                bounds = sorted((sign * slope.low, sign * slope.high))
                row |= {f"{side} low": bounds[0], f"{side} high": bounds[1]}
        if len(y_SX) >= 2 and len(x_X) >= 3:
            best = optimum(x_X, sign * y_SX)
            row |= {"best": 2**best.x, "best low": 2**best.low, "best high": 2**best.high, "at edge": best.at_edge}
        rows.append(row)
    return rows


def shifted(narrow: dict[tuple[int, int], Trial], wide: dict[tuple[int, int], Trial]) -> list[dict[str, Any]]:
    """Best log2 E at the wide budget − at the narrow one, at the experts that both have, seed by seed."""
    experts, seeds = shared(narrow, wide)
    rows = []
    for name, sign in PRIMARY if len(seeds) > 1 else ():
        places = [
            [experts[int(np.argmin([sign * MEASURES[name](by[e, s]) for e in experts]))] for by in (narrow, wide)]
            for s in seeds
        ]
        moved = interval([np.log2(b / a) for a, b in places])
        rows.append({"question": name, "experts": str(experts), "seeds": len(seeds), "places": str(places), **moved})
    return rows


def contrasts(other: Path, effect: str, first: str) -> str:
    """What a sweep that differs from the narrow one in `effect` alone does, seed by seed; chains of all lengths."""
    both = [trial for path in (NARROW, other) for trial in SweepResult.load(path).trials]
    found = frontier({"trials": both, "left_out": []})["effects"]
    rows = []
    for one in found:
        if one["effect"] != effect or one["task"] not in ("facts", "chains"):
            continue
        difference = span(one | {"mean": one["difference"]})
        rows.append([one["contrast"], one["task"], one["measure"], str(one["n"]), difference, one["verdict"] or "–"])
    return table(["contrast", "task", "measure", "seeds", "difference [95 %]", first], rows)


def wider(narrow: dict[tuple[int, int], Trial], wide: dict[tuple[int, int], Trial]) -> str:
    """Wide − narrow at equal E, mean over E by seed."""
    experts, seeds = shared(narrow, wide)
    rows = []
    for name in ("facts: accuracy", "chains: task loss", "chains: accuracy") if len(seeds) > 1 else ():
        of = MEASURES[name]
        means = [float(np.mean([of(wide[e, s]) - of(narrow[e, s]) for e in experts])) for s in seeds]
        rows.append([name, str(len(seeds)), span(interval(means))])
    return table([f"wide − narrow, mean over E of {experts}", "seeds", "difference [95 %]"], rows)


def detectable(slope: dict[str, Any], side: str, seeds: int) -> float:
    """The slope that the one-sided test at 5 % would find in 80 % of such experiments."""
    error = (slope[f"{side} high"] - slope[f"{side} low"]) / 2 / t.ppf(0.95, seeds - 1)
    return float(error * (t.ppf(0.95, seeds - 1) + t.ppf(0.8, seeds - 1)))


def shapes(by: dict[tuple[int, int], Trial]) -> str:
    """Mean over seeds of every measure, one row a number of experts."""
    rows = []
    for experts in sorted({e for e, _ in by}):
        those = [trial for (e, _), trial in sorted(by.items()) if e == experts]
        total = those[0]["parameters"]["total"] / 1e6
        head = ["dense" if experts == 1 else str(experts), str(len(those)), f"{total:.2f}", f"{those[0]['tpp']:.1f}"]
        rows.append([*head, *(f"{np.mean([of(trial) for trial in those]):.3f}" for of in MEASURES.values())])
    return table(["E", "seeds", "total, M", "TPP", *MEASURES], rows)


def dense_contrasts(by: dict[tuple[int, int], Trial]) -> str:
    """Each MoE − the dense model of equal active parameters."""
    rows = []
    for experts in sorted({e for e, _ in by if e > 1}):
        seeds = complete(by, (1, experts))
        if len(seeds) > 1:
            cells = [
                span(interval([MEASURES[name](by[experts, s]) - MEASURES[name](by[1, s]) for s in seeds]))
                for name, _ in PRIMARY
            ]
            rows.append([str(experts), str(len(seeds)), *cells])
    return table(["E − dense", "pairs", *(name for name, _ in PRIMARY)], rows)


def gaps(by: dict[tuple[int, int], Trial]) -> str:
    """Both gaps along sparsity, mean over seeds, and their slope per doubling by seed."""
    x_X, training_SX = curve(by, MEASURES["training loss"])
    if len(training_SX) < 2:
        return ""
    rows = []
    for task, loss, accuracy in (
        ("facts", fact("nats_per_token"), fact("accuracy")),
        ("chains", mean_chains("nats_per_token"), mean_chains("accuracy")),
    ):
        losses_SX, right_SX = curve(by, loss)[1], curve(by, accuracy)[1]
        beyond_SX = loss_accuracy_gap(losses_SX.ravel(), right_SX.ravel()).reshape(losses_SX.shape)
        for name, y_SX in (
            ("task loss − training loss", generalisation_gap(losses_SX, training_SX)),
            ("accuracy − what the task loss predicts", beyond_SX),
        ):
            rows.append([f"{task}: {name}", *(f"{mean:+.3f}" for mean in y_SX.mean(0)), slope(x_X, y_SX)])
    return table(["gap", *(f"{2**x:.0f}" for x in x_X), "slope per doubling"], rows)


def slope(x_X: np.ndarray, y_SX: np.ndarray) -> str:
    """Of the least-squares line of each seed."""
    return span(interval([float(np.polyfit(x_X, row, 1)[0]) for row in y_SX]))


def committees(by: dict[tuple[int, int], Trial]) -> str:
    """The audit's measures along sparsity, and their slope per doubling by seed."""
    audited_by = {key: trial for key, trial in by.items() if key[0] > 1 and trial["found"]["audit"]}
    if not audited_by:
        return ""
    experts = sorted({e for e, _ in audited_by})
    rows = []
    for name, of in AUDIT.items():
        x_X, y_SX = curve(audited_by, of)
        rows.append([name, *(f"{mean:.3f}" for mean in y_SX.mean(0)), slope(x_X, y_SX)])
    cores = []
    for e in experts:
        layers = [
            layer for (x, _), trial in audited_by.items() if x == e for layer in trial["found"]["audit"]["layers"]
        ]
        cores.append(f"{sum(not layer['claim']['failed'] for layer in layers)} of {len(layers)}")
    rows.append(["layers that fail no part but the rotated router's, which all tokens do not have", *cores, ""])
    return table(["audit", *map(str, experts), "slope per doubling"], rows)


def span(found: dict[str, Any]) -> str:
    """A mean and its interval."""
    if found["low"] is None:
        return f"{found['mean']:+.4f}"
    return f"{found['mean']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}]"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown; nothing where there are no rows."""
    rows = list(rows)
    lines = [head, ["---"] * len(head), *rows] if rows else []
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def tested(rows: Sequence[dict[str, Any]]) -> str:
    """The primary tests."""
    shown = []
    for row in rows:
        lines = [
            f"{row[f'{side} slope']:+.4f} [{row[f'{side} low']:+.4f}, {row[f'{side} high']:+.4f}], "
            f"{detectable(row, side, row['seeds']):.3f}"
            if f"{side} slope" in row
            else "–"
            for side in ("left", "right")
        ]
        best = f"{row['best']:.0f} [{row['best low']:.0f}, {row['best high']:.0f}]" if "best" in row else "–"
        edge = f"{row['at edge']:.2f}" if "at edge" in row else "–"
        verdict = row.get("verdict", "too few points or seeds")
        shown.append([row["budget"], row["question"], str(row["seeds"]), verdict, *lines, best, edge])
    head = [
        "budget",
        "question",
        "seeds",
        "two lines",
        "slope before the break [90 %], found at 80 %",
        "after it",
        "best E",
        "best at an edge",
    ]
    return table(head, shown)


def rewarded() -> tuple[pl.DataFrame, str]:
    """GRPO and votes by sparsity: accuracy, pass@1, majority and pass@128 before and after."""
    found = (
        {file.stem: json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))} if RESULTS.is_dir() else {}
    )
    rows = []
    for experts in EXPERTS:
        for seed in SEEDS:
            name = f"e{experts}-s{seed}"
            before = found.get(f"vote-before-{name}")
            if before is not None:
                rows.append({"experts": experts, "seed": seed, "routers": "before", **votes(before)})
            for routers in ROUTERS:
                after, gained = found.get(f"vote-{routers}-{name}"), found.get(f"grpo-{routers}-{name}")
                if after is not None and gained is not None:
                    low, high = gained["accuracy"]["interval"]
                    greedy = {
                        "greedy before": gained["accuracy"]["before"],
                        "greedy after": gained["accuracy"]["after"],
                        "greedy gain low": low,
                        "greedy gain high": high,
                    }
                    reward = gained["reward"]
                    steps = {"first reward": float(np.mean(reward[:10])), "last reward": float(np.mean(reward[-10:]))}
                    rows.append(
                        {"experts": experts, "seed": seed, "routers": routers, **votes(after), **greedy, **steps}
                    )
    if not rows:
        return pl.DataFrame(), ""
    frame = pl.DataFrame(rows, infer_schema_length=None)
    shown = []
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
                shown.append([str(experts), routers, str(part.height), *cells, change])
    return frame, table(["E", "routers", "seeds", "pass@1", "majority of 128", "pass@128", "pass@1, gain"], shown)


def lifted(frame: pl.DataFrame) -> str:
    """What voting and GRPO bring, and whether sparsity matters after them; each figure is one a seed."""
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
    """Every number of samples of every vote."""
    files = sorted(RESULTS.glob("vote-*.json")) if RESULTS.is_dir() else []
    found = [(file.stem, row) for file in files for row in json.loads(file.read_text())["votes"]]
    names = ("samples", "pass", "majority")
    return pl.DataFrame([{"vote": name, **{key: row[key] for key in names}} for name, row in found])


def looked_at() -> pl.DataFrame:
    """The learning rates that GRPO was tried with."""
    rows = []
    for rate in RATES:
        file = RESULTS / f"rate-{rate:g}.json"
        if file.exists():
            found = json.loads(file.read_text())
            last = float(np.mean(found["reward"][-LAST:]))
            greedy = {f"greedy {when}": found["accuracy"][when] for when in ("before", "after")}
            rows.append({"rate": rate, f"reward, last {LAST}": last, **greedy})
    return pl.DataFrame(rows)


def votes(run: Trial) -> dict[str, float]:
    """Pass and majority at the first and the last number of samples."""
    first, last = run["votes"][0], run["votes"][-1]
    many = last["samples"]
    return {"pass@1": first["pass"], f"majority of {many}": last["majority"], f"pass@{many}": last["pass"]}


def main() -> None:
    """Write the tables."""
    budgets = {
        name: trials(path) for name, path in (("narrow", NARROW), ("wide", WIDE)) if (path / "sweep.json").exists()
    }
    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    rows = [row for name, by in budgets.items() for row in primary(by, name)]
    parts = [("The two questions", tested(rows))]
    pl.DataFrame(rows, infer_schema_length=None).write_csv(folder / "primary.csv", float_precision=6)
    for name, path in (("narrow", NARROW), ("wide", WIDE)):
        if name in budgets:
            SweepResult.load(path).frame().write_parquet(folder / f"{name}.parquet", compression="zstd")
            parts.append((f"{name.capitalize()} budget, means over seeds", shapes(budgets[name])))
            parts += [("", of(budgets[name])) for of in (dense_contrasts, gaps, committees)]
    if len(budgets) == 2:
        moved = shifted(budgets["narrow"], budgets["wide"])
        cells = [[row["question"], row["experts"], str(row["seeds"]), row["places"], span(row)] for row in moved]
        head = ["question", "experts", "seeds", "best E by seed, narrow and wide", "log2 moved"]
        parts.append(("Does the optimum move with the budget?", table(head, cells)))
        parts.append(("More active parameters, at equal E", wider(budgets["narrow"], budgets["wide"])))
        parts.append(("and at equal training loss (chains of 1 to 14)", contrasts(WIDE, "budget", "the wider is")))
    if (CHOSEN / "sweep.json").exists():
        SweepResult.load(CHOSEN).frame().write_parquet(folder / "chosen.parquet", compression="zstd")
        more = contrasts(CHOSEN, "top_k", "the larger K is")
        parts.append(("More chosen experts, at equal TPP (chains of 1 to 14)", more))
    frame, shown = rewarded()
    if frame.height:
        frame.write_csv(folder / "after.csv", float_precision=6)
        all_votes().write_csv(folder / "votes.csv", float_precision=6)
        rates = looked_at()
        rates.write_csv(folder / "rates.csv", float_precision=6)
        cells = [[f"{rate:g}", *(f"{value:.3f}" for value in rest)] for rate, *rest in rates.rows()]
        tried = table([f"learning rate, E = {LOOK}, seed {look_seed()}", *rates.columns[1:]], cells)
        parts += [("GRPO and self-consistency", tried), ("", shown), ("", lifted(frame))]
    text = "".join((f"### {title}\n\n" if title else "") + body + "\n" for title, body in parts if body)
    before, _, rest = DOCS.read_text("utf-8").partition(BEGIN)
    DOCS.write_text(f"{before}{BEGIN}\n{text}{END}{rest.partition(END)[2]}", "utf-8")
    print(text)


if __name__ == "__main__":
    assert Path("src/turnout").is_dir(), "run it from the project's root"
    main()
