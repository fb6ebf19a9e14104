"""Tables of docs/findings/align.md and results/* from the results of run.py.

    python -m experiments.align.analyse

Intervals of accuracy resample seeds and questions (contrasts.py); those of other figures are t intervals over seeds.
"""

import json
from typing import Any

import numpy as np
import polars as pl

from experiments.align.contrasts import MAIN, PLAIN, Runs, base_correct, contrasts, correct, seeds_of
from experiments.align.questions import HELD_OUT
from experiments.align.run import ABLATIONS, FEW, HERE, HOT, RATES, RESULTS, SEEDS, TRAINED
from experiments.shared.intervals import over_seeds, signed
from experiments.shared.markdown import inject, sections, table
from experiments.shared.pool import read_results

DOCS = HERE.parents[1] / "docs" / "findings" / "align.md"


def rows_of(runs: Runs) -> pl.DataFrame:
    """One row a run: its settings, accuracy, losses and cost."""
    rows = []
    for name, run in runs.items():
        if "found" not in run:
            continue
        result, accuracy = run["found"], run["found"]["accuracy"]
        row = {key: run[key] for key in ("name", "method", "seed", "on", "tuning")}
        row |= {"options": json.dumps(run["options"]), "before": accuracy["overall"]["before"], "after": run["right"]}
        row |= {f"{domain}": figures["after"] for domain, figures in accuracy["domains"].items()}
        row |= {f"manifold {when}": value for when, value in result["manifold"].items()}
        row |= {f"cross-entropy {when}": value for when, value in result["cross_entropy"].items()}
        flops = result["flops"]
        rows.append(row | {"moved": result["moved"], "flops ratio": flops["ratio"] if flops else None})
        assert name == run["name"]
    return pl.DataFrame(rows, infer_schema_length=None)


def answers(runs: Runs) -> pl.DataFrame:
    """One row a test question: the answer of each run, and of the base model."""
    frame = None
    for name, run in runs.items():
        if run.get("on") != "test":
            continue
        questions = pl.DataFrame(run["answers"])
        if frame is None:
            frame = questions.select("id", "domain", "subject", "answer", base="before")
        after = questions.select("id", pl.col("after").cast(pl.Int8).alias(name))
        frame = frame.join(after, on="id", validate="1:1")
    assert frame is not None, "no test run is done"
    return frame


def rates(runs: Runs) -> str:
    """Accuracy on the development questions by learning rate."""
    rows = []
    for method in TRAINED:
        tried = [runs.get(f"{method}-rate{rate:g}") for rate in RATES]
        if all(tried):
            known = [run for run in tried if run]
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
    rows = [["base", "–", f"{base_correct(runs, False).mean():.4f}"]]
    rows[0] += [f"{base[domain]['before']:.3f}" for domain in (*tuned, HELD_OUT)]
    for method in (*TRAINED, "c3po", "oracle"):
        seeds = seeds_of(runs, method)
        if not seeds:
            continue
        by_domain = [runs[f"{method}-{seed}"]["found"]["accuracy"]["domains"] for seed in seeds]
        means = [np.mean([one[domain]["after"] for one in by_domain]) for domain in (*tuned, HELD_OUT)]
        tuned_mean = correct(runs, method, seeds, False).mean()
        rows.append([method, str(len(seeds)), f"{tuned_mean:.4f}", *(f"{mean:.3f}" for mean in means)])
    return table(["method", "seeds", "tuned domains", *tuned, f"{HELD_OUT} (not tuned)"], rows)


def differences(frame: pl.DataFrame, base: str, questions: str) -> str:
    """Table of the contrasts with `base`."""
    if frame.is_empty():
        return ""
    rows = [
        [
            f"{row['a']} − {base}",
            str(row["seeds"]),
            signed(row["mean"], row["low"], row["high"]),
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
    """Change of the manifold loss on the tuning questions, and of the routing."""
    rows = []
    for method in (*TRAINED, *(f"{method}-at-{rate:g}" for rate in HOT for method in (PLAIN, MAIN))):
        mine = [runs[f"{method}-{seed}"] for seed in seeds_of(runs, method)]
        if mine:
            results = [one["found"] for one in mine]
            changes = [one["manifold"]["after"] - one["manifold"]["before"] for one in results]
            entropy = [one["cross_entropy"]["after"] - one["cross_entropy"]["before"] for one in results]
            rows.append(
                [
                    mine[0]["method"],
                    f"{mine[0]['options']['learning_rate']:g}",
                    over_seeds(changes),
                    f"{np.mean([one['moved'] for one in results]):.4f}",
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


def higher_rates(runs: Runs, frame: pl.DataFrame) -> str:
    """The primary contrast at higher learning rates: share of different answers, and the contrasts."""
    rows = []
    for a, b in ((MAIN, PLAIN), *((f"{MAIN}-at-{rate:g}", f"{PLAIN}-at-{rate:g}") for rate in HOT)):
        seeds = [seed for seed in seeds_of(runs, a) if f"{b}-{seed}" in runs]
        if not seeds:
            continue
        apart = [
            np.mean(np.array(runs[f"{a}-{s}"]["answers"]["after"]) != np.array(runs[f"{b}-{s}"]["answers"]["after"]))
            for s in seeds
        ]
        cells = [f"{np.mean(apart):.3f}"]
        for x, y, held_out in ((a, b, False), (a, b, True), ("base", b, False), ("base", b, True)):
            row, *_ = frame.filter(a=x, b=y, questions=HELD_OUT if held_out else "tuned").to_dicts()
            sign = -1 if x == "base" else 1
            cells.append(signed(sign * row["mean"], *sorted((sign * row["low"], sign * row["high"]))))
        rows.append([f"{runs[f'{a}-{seeds[0]}']['options']['learning_rate']:g}", str(len(seeds)), *cells])
    head = ["learning rate", "seeds", "answers that differ"]
    for contrasted in (f"{MAIN} − {PLAIN}", f"{PLAIN} − base"):
        head += [f"{contrasted}, tuned", f"{contrasted}, {HELD_OUT}"]
    return table(head, rows)


def changed(runs: Runs) -> tuple[pl.DataFrame, str]:
    """Agreement of embedding and routing, and the audit: base, router tuning, RoMA, and the difference of the two."""
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
    """The oracle and its control, on the questions where both start from another letter than their own."""
    rows = []
    for seed in seeds_of(runs, "oracle"):
        one = runs[f"oracle-{seed}"]["found"]["rerouting"]["wrong"]["overall"]
        excess = signed(one["excess"], *one["interval"])
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
    """Accuracy of RoMA with one setting changed, beside RoMA's own with the same seeds."""
    rows = []
    for name in ("", *ABLATIONS):
        method = f"{MAIN}-{name}" if name else MAIN
        seeds = seeds_of(runs, method, FEW)
        if seeds:
            manifold = [runs[f"{method}-{seed}"]["found"]["manifold"] for seed in seeds]
            before = np.mean([one["before"] for one in manifold])
            changes = [one["after"] - one["before"] for one in manifold]
            tuned, other = (correct(runs, method, seeds, out).mean() for out in (False, True))
            rows.append(
                [
                    name or "RoMA as it is",
                    str(len(seeds)),
                    f"{tuned:.4f}",
                    f"{other:.4f}",
                    f"{before:.4f}",
                    f"{np.mean(changes):+.4f}",
                ]
            )
    return table(["changed", "seeds", "tuned domains", HELD_OUT, "manifold loss, before", "after − before"], rows)


def main() -> None:
    """Write the tables."""
    runs = read_results(RESULTS)
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
            ("", differences(frame, PLAIN, "tuned")),
            ("", differences(frame, PLAIN, HELD_OUT)),
            ("Rates that move routing (looked at afterwards)", higher_rates(runs, frame)),
            ("Did the penalty do anything?", manipulation(runs)),
            ("Routing and meaning, and the committee", shown),
            ("The oracle and its control", oracle(runs)),
            ("Ablations", ablated(runs)),
            ("", differences(frame, MAIN, "tuned")),
        ]
    text = sections(parts)
    inject(DOCS, "experiments/align/analyse.py", text)
    print(text)


if __name__ == "__main__":
    main()
