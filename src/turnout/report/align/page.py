"""An alignment as one self-contained page and terminal rows, from align.json and its curves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from turnout.errors import RunError
from turnout.report.kit.page import assembled
from turnout.report.kit.text import Table, name, number
from turnout.runs import RunFolder

ALIGN_FILE = "align.json"
SCRIPTS = ("kit/elements.js", "kit/charts.js", "align/page.js")
_MOST_POINTS = 2000
_CURVES = ("loss", "cross_entropy", "penalty", "gradient_norm")

Alignment = Mapping[str, Any]


def is_alignment(run_path: str | Path) -> bool:
    """Whether a run's folder holds an alignment."""
    return (Path(run_path) / ALIGN_FILE).is_file()


def render_alignment(run_path: str | Path) -> str:
    """The page of a finished alignment, as HTML.

    Raises:
        RunError: the run is unfinished or damaged, or of another schema.
    """
    folder = RunFolder.read(run_path)
    alignment = folder.read_json(ALIGN_FILE)
    if alignment.get("schema") != 1:
        raise RunError(folder.path, expected="an alignment of schema 1", received=alignment.get("schema"))
    curves = folder.read_table("curves") if (folder.path / "tables" / "curves.parquet").exists() else None
    return assembled("align/page.html", SCRIPTS, page_data(alignment, folder.manifest, curves))


def page_data(alignment: Alignment, manifest: Mapping[str, Any], curves: pl.DataFrame | None) -> dict[str, Any]:
    """All that the page's script draws and says, ready for JSON."""
    return {
        "title": f"{alignment['model']['id']}, {alignment['config']['method']}",
        "sentences": alignment_sentences(alignment),
        "facts": _facts(alignment, manifest),
        "accuracy": [{"domain": domain, **figures} for domain, figures in _accuracies(alignment)],
        "curves": None if curves is None or curves.is_empty() else _thinned(curves),
    }


def alignment_sentences(alignment: Alignment) -> list[str]:
    """What an alignment did, what came of it, and what cannot be said of it."""
    trained = alignment["training"] is not None
    lines = [_answers(alignment), *(_trained(alignment) if trained else _rerouted(alignment))]
    removed = alignment["tasks"]["left_out"]["decontaminated"]
    if removed:
        lines.append(f"{removed:,} questions were not trained on, for they are asked in the evaluation too.")
    if trained:
        lines.append("One run is one seed: whether one method is better than another takes several, at equal budgets.")
    return lines


def _trained(alignment: Alignment) -> list[str]:
    before, after = alignment["manifold"]["before"], alignment["manifold"]["after"]
    read, n = alignment["training_accuracy"], alignment["questions"]
    lines = [
        f"The manifold loss of the training questions, which RoMA minimises, was {before:.4g} under the base routers "
        f"and is {after:.4g} under the trained ones.",
        f"Of {n:,} training questions the base model answered {alignment['successful']:,} right "
        f"({read['before']:.1%}), the trained routers {read['after']:.1%}.",
    ]
    if alignment["without_neighbours"]:
        lines.append(f"{alignment['without_neighbours']:,} of them had no neighbour: they counted for the answer only.")
    stopped = alignment["training"]["stopped"]
    return [*lines, f"{stopped[0].upper()}{stopped[1:]}."] if stopped else lines


def _rerouted(alignment: Alignment) -> list[str]:
    """Of a method that trains nothing."""
    flops, found = alignment["flops"], alignment["rerouting"]
    lines = [
        f"Nothing was trained. A question costs {flops['method']:.3g} FLOPs, {flops['ratio']:.1f} times what the base "
        "model takes."
    ]
    if alignment["references"] is not None:
        lines.append(
            f"{alignment['references']:,} training questions served as references; "
            f"{alignment['without_neighbours']:,} questions had no neighbour among them."
        )
    wrong = found.get("wrong", {}).get("overall", {})
    if wrong.get("questions"):
        lines.append(
            f"Of {wrong['questions']:,} wrong answers the descent made {wrong['right']:.1%} right, and the same "
            f"descent towards a random wrong letter reached it in {wrong['control']:.1%}; only the excess of "
            f"{100 * wrong['excess']:+.1f} points speaks of routing that could have been better."
        )
    return lines


def alignment_tables(alignment: Alignment) -> list[Table]:
    """Accuracy before and after for a terminal; none where nothing was evaluated."""
    rows = tuple(
        (name(domain, 24), f"{of['questions']:,}", number(of["before"]), number(of["after"]), _shift(of))
        for domain, of in _accuracies(alignment)
    )
    columns = ("domain", "questions", "before", "after", "difference [95 %]")
    return [Table("accuracy", columns, rows)] if rows else []


def _accuracies(alignment: Alignment) -> list[tuple[str, Mapping[str, Any]]]:
    accuracy = alignment["accuracy"]
    return [] if accuracy is None else [("overall", accuracy["overall"]), *accuracy["domains"].items()]


def _answers(alignment: Alignment) -> str:
    accuracy = alignment["accuracy"]
    if accuracy is None:
        return (
            "No evaluation questions were given: what the training did to answers that it was not trained on is open."
        )
    of = accuracy["overall"]
    head = f"Accuracy on {of['questions']:,} evaluation questions: {of['before']:.1%} before, {of['after']:.1%} after"
    if of["interval"] is None:
        return f"{head}; no answer changed between right and wrong."
    low, high = of["interval"]
    changed = f"{of['gained']:,} gained and {of['lost']:,} lost"
    said = f"{head}; {changed}, a difference of {100 * of['difference']:+.1f} points "
    verdict = "" if low > 0 or high < 0 else " An interval that holds 0 shows no difference"
    if verdict and of["detectable"] is not None:
        verdict += f"; one of {100 * of['detectable']:.1f} points would have been found four times in five"
    return f"{said}[{100 * low:+.1f}, {100 * high:+.1f}].{verdict + '.' if verdict else ''}"


def _shift(of: Mapping[str, Any]) -> str:
    bounds = "" if of["interval"] is None else f" [{of['interval'][0]:+.3f} {of['interval'][1]:+.3f}]"
    return f"{of['difference']:+.3f}{bounds}"


def _thinned(curves: pl.DataFrame) -> dict[str, list[float]]:
    """The curves at every so many steps, so that a page stays small."""
    every = -(-len(curves) // _MOST_POINTS)
    kept = curves.gather_every(every)
    return {column: kept[column].to_list() for column in ("step", *_CURVES)}


def _facts(alignment: Alignment, manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    model, config, timings = alignment["model"], alignment["config"], manifest.get("timings", {})
    options = {key: value for part in config.values() if isinstance(part, dict) for key, value in part.items()}
    tested = alignment["evaluation"]
    facts = [
        ("Model", f"{model['id']}, digest {str(model['digest'])[:12]}, {model['dtype']}"),
        ("Method", str(config["method"])),
        ("Trained routers", f"layers {', '.join(map(str, alignment['layers']))}"),
        ("Training questions", f"{alignment['tasks']['name']}, {alignment['tasks']['questions']:,}"),
        ("Evaluation questions", "none" if tested is None else f"{tested['name']}, {tested['questions']:,}"),
        ("Options", ", ".join(f"{key} {value}" for key, value in options.items())),
        (
            "Time",
            ", ".join(f"{key.removesuffix('_seconds')} {s:.0f} s" for key, s in timings.items() if "seconds" in key),
        ),
    ]
    return [(term, value) for term, value in facts if value]
