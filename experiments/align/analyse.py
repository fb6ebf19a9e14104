"""Tables of docs/findings/align.md and results/* from what run.py measured: `python experiments/align/analyse.py`.

Accuracy is compared question by question. Intervals of it resample seeds and questions, both (two-way bootstrap,
two-sided 95 %); those of other figures are t intervals over seeds. Shapes: S seeds, Q questions, R resamples.
"""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from questions import HELD_OUT
from run import ABLATIONS, FEW, HERE, HOT, PRIMARY, RATES, RESULTS, SEEDS, TRAINED
from scipy.stats import t

from turnout import ops

DOCS = HERE.parents[1] / "docs" / "findings" / "align.md"
BEGIN, END = "<!-- results: written by experiments/align/analyse.py -->\n", "<!-- end of results -->"
RESAMPLES, POWER = 10_000, 2.8  # standard errors that a two-sided 5 % test finds four times in five
PLAIN, MAIN = PRIMARY
Runs = dict[str, dict[str, Any]]


def read() -> Runs:
    """What is there, by name."""
    return {file.stem: json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))}


def there(runs: Runs, method: str, seeds: Iterable[int] = SEEDS) -> list[int]:
    """The seeds that a method was run with."""
    return [seed for seed in seeds if f"{method}-{seed}" in runs]


def right(runs: Runs, method: str, seeds: Sequence[int], held_out: bool) -> np.ndarray:
    """[S, Q]: which of the test questions were answered right, of the tuned domains or of the one that was not."""
    rows = []
    for seed in seeds:
        frame = pl.DataFrame(runs[f"{method}-{seed}"]["answers"]).sort("id")
        frame = frame.filter((pl.col("domain") == HELD_OUT) == held_out)
        rows.append((frame["after"] == frame["answer"]).to_numpy())
    return np.array(rows, dtype=float)


def base_right(runs: Runs, held_out: bool) -> np.ndarray:
    """[1, Q] of the base model."""
    frame = pl.DataFrame(runs[f"{PLAIN}-0"]["answers"]).sort("id").filter((pl.col("domain") == HELD_OUT) == held_out)
    return (frame["before"] == frame["answer"]).to_numpy().astype(float)[None]


def two_way(difference_SQ: np.ndarray) -> dict[str, float]:
    """Mean, interval, p and least detectable mean of a difference, over seeds and questions drawn anew."""
    draw, (n_seeds, n_questions) = np.random.default_rng(0), difference_SQ.shape
    seeds_RS = draw.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), RESAMPLES) / n_seeds
    questions_Q, means = np.full(n_questions, 1 / n_questions), []
    for some_RS in np.array_split(seeds_RS, 20):
        drawn_RQ = draw.multinomial(n_questions, questions_Q, len(some_RS)) / n_questions
        means.append((some_RS @ difference_SQ * drawn_RQ).sum(1))
    means_R = np.concatenate(means)
    low, high = np.quantile(means_R, [0.025, 0.975])
    beyond = min((means_R <= 0).sum(), (means_R >= 0).sum())
    return {
        "mean": float(difference_SQ.mean()),
        "low": float(low),
        "high": float(high),
        "p": min(1.0, 2 * (1 + int(beyond)) / (1 + RESAMPLES)),
        "detectable": POWER * float(means_R.std()),
    }


def contrast(runs: Runs, a: str, b: str, held_out: bool) -> dict[str, Any] | None:
    """Accuracy of `a` − that of `b`, seed by seed; a method that was run once stands beside every seed."""
    seeds = there(runs, b)
    first = there(runs, a)
    if a == "base":
        left_SQ = base_right(runs, held_out)
    elif len(first) == 1:
        left_SQ = right(runs, a, first, held_out)
    else:
        seeds = [seed for seed in seeds if seed in first]
        left_SQ = right(runs, a, seeds, held_out) if seeds else np.empty((0, 0))
    if not seeds or not left_SQ.size:
        return None
    questions = HELD_OUT if held_out else "tuned"
    found = two_way(left_SQ - right(runs, b, seeds, held_out))
    runs_of_a = 1 if len(first) == 1 else len(seeds)
    return {"a": a, "b": b, "questions": questions, "seeds": runs_of_a, **found}


def contrasts(runs: Runs) -> pl.DataFrame:
    """Against router tuning, and the ablations against RoMA; Holm within each of these but for the primary contrast."""
    names = ["base", MAIN, *(m for m in TRAINED if m not in (PLAIN, MAIN)), "c3po", "oracle"]
    families = [(names, PLAIN, out) for out in (False, True)]
    families.append(([f"{MAIN}-{name}" for name in ABLATIONS], MAIN, False))
    families += [
        (["base", f"{MAIN}-at-{rate:g}"], f"{PLAIN}-at-{rate:g}", out) for rate in HOT for out in (False, True)
    ]
    frames = []
    for methods, base, held_out in families:
        rows = [row for method in methods if (row := contrast(runs, method, base, held_out))]
        if not rows:
            continue
        frame = pl.DataFrame(rows).with_columns(primary=(pl.col("a") == MAIN) & (not held_out))
        rest = frame.filter(~pl.col("primary"))
        p = torch.tensor(rest["p"].to_list(), dtype=torch.float64)
        holm = pl.Series(ops.holm(p).tolist() if len(p) else [], dtype=pl.Float64)
        frames.append(pl.concat([frame.filter("primary"), rest.with_columns(holm=holm)], how="diagonal"))
    return pl.concat(frames, how="diagonal").with_columns(pl.col("holm").cast(pl.Float64)) if frames else pl.DataFrame()


def rows_of(runs: Runs) -> pl.DataFrame:
    """One row a run: what was asked and what came of it."""
    rows = []
    for name, run in runs.items():
        if "found" not in run:
            continue
        found, accuracy = run["found"], run["found"]["accuracy"]
        row = {key: run[key] for key in ("name", "method", "seed", "on", "tuning")}
        row |= {"options": json.dumps(run["options"]), "before": accuracy["overall"]["before"], "after": run["right"]}
        row |= {f"{domain}": figures["after"] for domain, figures in accuracy["domains"].items()}
        row |= {f"manifold {when}": value for when, value in found["manifold"].items()}
        row |= {f"cross-entropy {when}": value for when, value in found["cross_entropy"].items()}
        flops = found["flops"]
        rows.append(row | {"moved": found["moved"], "flops ratio": flops["ratio"] if flops else None})
        assert name == run["name"]
    return pl.DataFrame(rows, infer_schema_length=None)


def answers(runs: Runs) -> pl.DataFrame:
    """One row a test question: what each run answered; `base` too."""
    frame = None
    for name, run in runs.items():
        if run.get("on") != "test":
            continue
        table = pl.DataFrame(run["answers"])
        if frame is None:
            frame = table.select("id", "domain", "subject", "answer", base="before")
        given = table.select("id", pl.col("after").cast(pl.Int8).alias(name))
        frame = frame.join(given, on="id", validate="1:1")
    assert frame is not None, "no test run is done"
    return frame


def over_seeds(values: Sequence[float]) -> str:
    """Mean and t interval."""
    if len(values) < 2:
        return " / ".join(f"{value:+.4f}" for value in values) or "–"
    half = float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1)) / math.sqrt(len(values))
    mean = float(np.mean(values))
    return f"{mean:+.4f} [{mean - half:+.4f}, {mean + half:+.4f}]"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown; nothing where there are no rows."""
    rows = list(rows)
    lines = [head, ["---"] * len(head), *rows] if rows else []
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def rates(runs: Runs) -> str:
    """Accuracy on the development questions by learning rate."""
    rows = []
    for method in TRAINED:
        found = [runs.get(f"{method}-rate{rate:g}") for rate in RATES]
        if all(found):
            known = [run for run in found if run]
            rows.append(
                [
                    method,
                    f"{known[0]['found']['accuracy']['overall']['before']:.3f}",
                    *(f"{r['right']:.3f}" for r in known),
                ]
            )
    return table(["development questions", "base", *(f"{rate:g}" for rate in RATES)], rows)


def accuracies(runs: Runs) -> str:
    """Mean accuracy over seeds by method and domain."""
    domains = list(runs[f"{PLAIN}-0"]["found"]["accuracy"]["domains"])
    tuned = [domain for domain in domains if domain != HELD_OUT]
    base = runs[f"{PLAIN}-0"]["found"]["accuracy"]["domains"]
    rows = [["base", "–", f"{base_right(runs, False).mean():.4f}"]]
    rows[0] += [f"{base[domain]['before']:.3f}" for domain in (*tuned, HELD_OUT)]
    for method in (*TRAINED, "c3po", "oracle"):
        seeds = there(runs, method)
        if not seeds:
            continue
        by_domain = [runs[f"{method}-{seed}"]["found"]["accuracy"]["domains"] for seed in seeds]
        means = [np.mean([one[domain]["after"] for one in by_domain]) for domain in (*tuned, HELD_OUT)]
        tuned_mean = right(runs, method, seeds, False).mean()
        rows.append([method, str(len(seeds)), f"{tuned_mean:.4f}", *(f"{mean:.3f}" for mean in means)])
    return table(["method", "seeds", "tuned domains", *tuned, f"{HELD_OUT} (not tuned)"], rows)


def differ(frame: pl.DataFrame, base: str, questions: str) -> str:
    """The contrasts with `base`."""
    if frame.is_empty():
        return ""
    rows = [
        [
            f"{row['a']} − {base}",
            str(row["seeds"]),
            f"{row['mean']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]",
            f"{row['p']:.3g}",
            "primary" if row["primary"] else f"{row['holm']:.3g}",
            f"{row['detectable']:.4f}",
        ]
        for row in frame.filter(b=base, questions=questions).iter_rows(named=True)
    ]
    return table(
        [f"accuracy, {questions} questions", "seeds", "difference [95 %]", "p", "Holm", "detectable (80 %)"], rows
    )


def manipulation(runs: Runs) -> str:
    """How far the manifold loss of the tuning questions fell, and how far routing moved."""
    rows = []
    for method in (*TRAINED, *(f"{method}-at-{rate:g}" for rate in HOT for method in (PLAIN, MAIN))):
        those = [runs[f"{method}-{seed}"] for seed in there(runs, method)]
        if those:
            found = [one["found"] for one in those]
            falls = [one["manifold"]["after"] - one["manifold"]["before"] for one in found]
            entropy = [one["cross_entropy"]["after"] - one["cross_entropy"]["before"] for one in found]
            rows.append(
                [
                    those[0]["method"],
                    f"{those[0]['options']['learning_rate']:g}",
                    over_seeds(falls),
                    f"{np.mean([one['moved'] for one in found]):.4f}",
                    over_seeds(entropy),
                ]
            )
    head = [
        "method",
        "learning rate",
        "manifold loss, after − before",
        "routing moved, ‖r − r_base‖²",
        "cross-entropy of the tuning questions",
    ]
    return table(head, rows)


def hotter(runs: Runs, frame: pl.DataFrame) -> str:
    """The primary contrast at rates that move routing: answers that differ, and the contrasts."""
    rows = []
    for a, b in ((MAIN, PLAIN), *((f"{MAIN}-at-{rate:g}", f"{PLAIN}-at-{rate:g}") for rate in HOT)):
        seeds = [seed for seed in there(runs, a) if f"{b}-{seed}" in runs]
        if not seeds:
            continue
        apart = [
            np.mean(np.array(runs[f"{a}-{s}"]["answers"]["after"]) != np.array(runs[f"{b}-{s}"]["answers"]["after"]))
            for s in seeds
        ]
        cells = [f"{np.mean(apart):.3f}"]
        for x, y, held_out in ((a, b, False), (a, b, True), ("base", b, False), ("base", b, True)):
            found = frame.filter(a=x, b=y, questions=HELD_OUT if held_out else "tuned").to_dicts()
            sign = -1 if x == "base" else 1
            bounds = sorted((sign * found[0]["low"], sign * found[0]["high"]))
            cells.append(f"{sign * found[0]['mean']:+.4f} [{bounds[0]:+.4f}, {bounds[1]:+.4f}]")
        rows.append([f"{runs[f'{a}-{seeds[0]}']['options']['learning_rate']:g}", str(len(seeds)), *cells])
    head = ["learning rate", "seeds", "answers that differ"]
    for contrasted in (f"{MAIN} − {PLAIN}", f"{PLAIN} − base"):
        head += [f"{contrasted}, tuned", f"{contrasted}, {HELD_OUT}"]
    return table(head, rows)


def changed(runs: Runs) -> tuple[pl.DataFrame, str]:
    """Agreement of embedding and routing, and the audit: base, router tuning, RoMA, and their difference by seed."""
    figures = {name: _figures(run) for name, run in runs.items() if name.startswith("change-")}
    if "change-base" not in figures:
        return pl.DataFrame(), ""
    both = [s for s in SEEDS if all(f"change-{method}-{s}" in figures for method in (PLAIN, MAIN))]
    of = {method: [figures[f"change-{method}-{seed}"] for seed in both] for method in (PLAIN, MAIN)}
    rows = []
    for name, before in figures["change-base"].items():
        means = [f"{np.mean([one[name] for one in of[method]]):.4f}" if both else "–" for method in (PLAIN, MAIN)]
        apart = over_seeds([b[name] - a[name] for a, b in zip(of[PLAIN], of[MAIN], strict=True)])
        rows.append([name, f"{before:.4f}", *means, apart])
    frame = pl.DataFrame([{"run": name.removeprefix("change-"), **one} for name, one in figures.items()])
    return frame, table(["test questions", "base", PLAIN, MAIN, f"{MAIN} − {PLAIN}"], rows)


def _figures(run: dict[str, Any]) -> dict[str, float]:
    agreement, overall = run["agreement"], run["overall"]
    beside = run.get("beside_base")
    choices = 1.0 if beside is None else beside["overall"][1]["agreement"]["value"]
    common = [1.0] if beside is None else [layer["overlap"][1]["jaccard"] for layer in beside["layers"]]
    return {
        "overlap of the ten nearest": agreement["overlap"],
        "linear CKA": agreement["cka"],
        "Gini": overall["gini"]["mean"],
        "Jaccard": overall["jaccard_mean"]["mean"],
        "coverage of the committee": overall["coverage"]["mean"],
        "committee in common with the base": float(np.mean(common)),
        "choices in common with the base": choices,
        "layers with a core": float(
            sum(layer["claim"]["verdict"] in ("core", "dominant committee") for layer in run["layers"])
        ),
    }


def oracle(runs: Runs) -> str:
    """The oracle beside its control, on the questions where both start from a letter that is not theirs."""
    rows = []
    for seed in there(runs, "oracle"):
        one = runs[f"oracle-{seed}"]["found"]["rerouting"]["wrong"]["overall"]
        low, high = one["interval"]
        excess = f"{one['excess']:+.4f} [{low:+.4f}, {high:+.4f}]"
        start = f"{one['logprob']['right']:.3f} / {one['logprob']['control']:.3f}"
        rows.append([str(seed), str(one["questions"]), f"{one['right']:.3f}", f"{one['control']:.3f}", excess, start])
    return table(
        [
            "seed",
            "questions",
            "made right",
            "control",
            "excess [95 %]",
            "log-probability at the start, right / control",
        ],
        rows,
    )


def ablated(runs: Runs) -> str:
    """Accuracy of RoMA with one thing changed, beside RoMA's own with the same seeds."""
    rows = []
    for name in ("", *ABLATIONS):
        method = f"{MAIN}-{name}" if name else MAIN
        seeds = there(runs, method, FEW)
        if seeds:
            found = [runs[f"{method}-{seed}"]["found"]["manifold"] for seed in seeds]
            before = np.mean([one["before"] for one in found])
            falls = [one["after"] - one["before"] for one in found]
            tuned, other = (right(runs, method, seeds, out).mean() for out in (False, True))
            rows.append(
                [
                    name or "RoMA as it is",
                    str(len(seeds)),
                    f"{tuned:.4f}",
                    f"{other:.4f}",
                    f"{before:.4f}",
                    f"{np.mean(falls):+.4f}",
                ]
            )
    return table(["changed", "seeds", "tuned domains", HELD_OUT, "manifold loss, before", "after − before"], rows)


def main() -> None:
    """Write the tables."""
    runs = read()
    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    rows_of(runs).write_csv(folder / "runs.csv", float_precision=6)
    parts = [("Learning rates", rates(runs))]
    if f"{PLAIN}-0" in runs:
        answers(runs).write_parquet(folder / "answers.parquet", compression="zstd")
        frame = contrasts(runs)
        frame.write_csv(folder / "contrasts.csv", float_precision=6)
        figures, shown = changed(runs)
        if not figures.is_empty():
            figures.write_csv(folder / "changes.csv", float_precision=6)
        parts += [
            ("Accuracy", accuracies(runs)),
            ("", differ(frame, PLAIN, "tuned")),
            ("", differ(frame, PLAIN, HELD_OUT)),
            ("Rates that move routing (looked at afterwards)", hotter(runs, frame)),
            ("Did the penalty do anything?", manipulation(runs)),
            ("Routing and meaning, and the committee", shown),
            ("The oracle and its control", oracle(runs)),
            ("Ablations", ablated(runs)),
            ("", differ(frame, MAIN, "tuned")),
        ]
    text = "".join((f"### {title}\n\n" if title else "") + body + "\n" for title, body in parts if body)
    before, _, rest = DOCS.read_text("utf-8").partition(BEGIN)
    DOCS.write_text(f"{before}{BEGIN}\n{text}{END}{rest.partition(END)[2]}", "utf-8")
    print(text)


if __name__ == "__main__":
    assert Path("src/turnout").is_dir(), "run it from the project's root"
    main()
