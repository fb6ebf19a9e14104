"""Tables of docs/findings/embedded.md, from the stored evaluation, between `<!-- table NAME -->` and `<!-- end -->`."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from turnout import ops
from turnout.tasks.worlds import KINDS

Results = dict[str, Any]
COMMAND = "python -m turnout.embedded.evaluate"
GOAL = 0.10  # relative reduction of bits per byte against the better of unigram and order 3


def write_tables(results: Results, page: Path) -> None:
    """Replace the tables of `page` by those of `results`."""
    page.write_text(with_tables(results, page.read_text("utf-8")), "utf-8")


def with_tables(results: Results, text: str) -> str:
    """`text` with its tables rewritten; KeyError for an unknown table."""
    pattern = re.compile(r"(<!-- table ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
    return pattern.sub(lambda m: f"{m[1]}{_TABLES[m[2]](results)}\n`{COMMAND}`\n{m[3]}", text)


def _training(results: Results) -> str:
    rows = []
    for i, stage in enumerate(results["training"], 1):
        schedule = stage["recipe"]["schedule"]
        rate = f"{schedule['learning_rate']:g}"
        minutes = stage["seconds"] / 60
        rows.append([str(i), f"{stage['tokens']:,}", f"{stage['steps']:,}", rate, f"{minutes:.0f} min"])
    total = [f"{sum(stage[key] for stage in results['training']):,}" for key in ("tokens", "steps")]
    minutes = sum(stage["seconds"] for stage in results["training"]) / 60
    rows.append(["all", *total, "", f"{minutes:.0f} min"])
    return _table(["stage", "tokens seen", "steps", "peak learning rate", "wall time, one core"], rows)


def _mixture(results: Results) -> str:
    sizes, rows = results["bits_per_byte"], []
    for name, row in sizes.items():
        passes = [_share(stage, name) * stage["tokens"] / row["train_tokens"] for stage in results["training"]]
        shares = [f"{100 * _share(stage, name):.0f} %" for stage in results["training"]]
        held_out = f"{row['documents']:,} / {row['tokens']:,}"
        rows.append([name, f"{row['train_tokens']:,}", held_out, *shares, f"{sum(passes):.1f}"])
    stages = [f"share, stage {i}" for i in range(1, len(results["training"]) + 1)]
    return _table(["source", "train tokens", "held-out documents / tokens", *stages, "passes"], rows)


def _share(stage: Results, name: str) -> float:
    weights = {source["name"]: source["weight"] for source in stage["recipe"]["data"]["sources"]}
    return weights[name] / sum(weights.values())


def _bits(results: Results) -> str:
    rows = []
    for name, row in results["bits_per_byte"].items():
        better = min(row["unigram"], row["order_3"])
        fewer = 1 - row["model"] / better
        cells = [f"{row[key]:.3f}" for key in ("model", "unigram", "order_3", "order_3_own")]
        goal = "yes" if fewer >= GOAL else "no"
        rows.append([name, *cells, f"{100 * fewer:.1f} %", goal])
    head = [
        "source",
        "model",
        "unigram",
        "order 3",
        "order 3, that source alone",
        "fewer than the better",
        "10 % reached",
    ]
    return _table(head, rows)


def _load(results: Results) -> str:
    rows = []
    for layer in results["load"]:
        n_experts = len(layer["share"])
        cells = [f"{n_experts * layer[key]:.2f}" for key in ("min", "max")]
        worst = max(layer["by_source"], key=lambda name: layer["by_source"][name]["cv"])
        spread = f"{layer['by_source'][worst]['cv']:.2f} ({worst})"
        rows.append([str(layer["layer"]), *cells, f"{layer['cv']:.2f}", spread, str(layer["dead"])])
    return _table(["layer", "least", "most", "CV", "largest CV of one source", "dead experts"], rows)


def _worlds(results: Results) -> str:
    rows = [[name, KINDS[name], *_scores(*score)] for name, score in results["accuracy"]["worlds"].items()]
    correct, n = (sum(column) for column in zip(*results["accuracy"]["worlds"].values(), strict=True))
    return _table(
        ["domain", "kind", "right", "95 % interval", "above chance"], [*rows, ["all", "", *_scores(correct, n)]]
    )


def _mmlu(results: Results) -> str:
    rows = [[name, *_scores(*score)] for name, score in results["accuracy"]["mmlu-dev"].items()]
    correct, n = (sum(column) for column in zip(*results["accuracy"]["mmlu-dev"].values(), strict=True))
    return _table(["domain", "right", "95 % interval", "above chance"], [*rows, ["all", *_scores(correct, n)]])


def _prompts(results: Results) -> str:
    prompts = results["prompts"]
    row = [str(prompts[key]) for key in ("questions", "longest", "beyond_training")]
    return _table(["prompts", "tokens of the longest", "longer than a training sequence"], [row])


def _scores(correct: int, n: int) -> list[str]:
    low, high = ops.wilson(correct, n)
    above = "yes" if low > 0.25 else "no" if high >= 0.25 else "below"
    return [f"{correct} of {n} ({100 * correct / n:.0f} %)", f"{100 * low:.0f}–{100 * high:.0f} %", above]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


_TABLES: dict[str, Callable[[Results], str]] = {
    "training": _training,
    "mixture": _mixture,
    "bits": _bits,
    "load": _load,
    "worlds": _worlds,
    "mmlu": _mmlu,
    "prompts": _prompts,
}
