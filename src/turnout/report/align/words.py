"""An alignment in words: sentences, terminal table and facts, from align.json's content."""

from collections.abc import Mapping
from typing import Any

from turnout.report.kit.text import Table, name, number, signed

Alignment = Mapping[str, Any]


def alignment_sentences(alignment: Alignment) -> list[str]:
    """What changed, what was trained or rerouted, and what the run cannot show; a sentence or two each."""
    trained = alignment["training"] is not None
    lines = [_answers(alignment), *(_trained(alignment) if trained else _rerouted(alignment))]
    removed = alignment["tasks"]["left_out"]["decontaminated"]
    if removed:
        lines.append(f"{removed:,} questions were left out of the training because the evaluation contains them.")
    if trained:
        lines.append("This is one seed. To compare two methods, run several seeds of each at equal budgets.")
    return lines


def alignment_tables(alignment: Alignment) -> list[Table]:
    """Accuracy before and after, overall and by domain; no table where nothing was evaluated."""
    rows = tuple(
        (
            name(domain, 24),
            f"{accuracy['questions']:,}",
            number(accuracy["before"]),
            number(accuracy["after"]),
            signed(accuracy["difference"], accuracy["interval"]),
        )
        for domain, accuracy in accuracies(alignment)
    )
    columns = ("domain", "questions", "before", "after", "difference [95 %]")
    return [Table("accuracy", columns, rows)] if rows else []


def accuracies(alignment: Alignment) -> list[tuple[str, Mapping[str, Any]]]:
    """Name and accuracy of "overall", then of each domain; empty where nothing was evaluated."""
    accuracy = alignment["accuracy"]
    return [] if accuracy is None else [("overall", accuracy["overall"]), *accuracy["domains"].items()]


def facts(alignment: Alignment, manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Term and value of model, method, questions, options and time."""
    model, config, timings = alignment["model"], alignment["config"], manifest.get("timings", {})
    options = {key: value for part in config.values() if isinstance(part, dict) for key, value in part.items()}
    evaluation = alignment["evaluation"]
    seconds = {key.removesuffix("_seconds"): value for key, value in timings.items() if key.endswith("_seconds")}
    entries = [
        ("Model", f"{model['id']}, digest {str(model['digest'])[:12]}, {model['dtype']}"),
        ("Method", str(config["method"])),
        ("Aligned routers", f"layers {', '.join(map(str, alignment['layers']))}"),
        ("Training questions", f"{alignment['tasks']['name']}, {alignment['tasks']['questions']:,}"),
        (
            "Evaluation questions",
            "none" if evaluation is None else f"{evaluation['name']}, {evaluation['questions']:,}",
        ),
        ("Options", ", ".join(f"{key} {value}" for key, value in options.items())),
        ("Time", ", ".join(f"{part} {value:.0f} s" for part, value in seconds.items())),
    ]
    return [(term, value) for term, value in entries if value]


def _answers(alignment: Alignment) -> str:
    """Accuracy on the evaluation questions before and after."""
    if alignment["accuracy"] is None:
        return "No evaluation questions were given: the effect on questions outside the training is not known."
    accuracy = alignment["accuracy"]["overall"]
    head = (
        f"Accuracy on {accuracy['questions']:,} evaluation questions: {accuracy['before']:.1%} before, "
        f"{accuracy['after']:.1%} after"
    )
    if accuracy["interval"] is None:
        return f"{head}; no answer changed between right and wrong."
    low, high = accuracy["interval"]
    changed = f"{accuracy['gained']:,} answers gained, {accuracy['lost']:,} lost"
    difference = f"difference {100 * accuracy['difference']:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]"
    return f"{head}; {changed}; {difference}.{'' if low > 0 or high < 0 else _no_difference(accuracy)}"


def _no_difference(accuracy: Mapping[str, Any]) -> str:
    """What an interval that includes 0 means, and which difference these questions could have shown."""
    if accuracy["detectable"] is None:
        return " The interval includes 0: no difference is shown."
    return (
        " The interval includes 0: no difference is shown. These questions would show a difference of "
        f"{100 * accuracy['detectable']:.1f} points with a power of 80 %."
    )


def _trained(alignment: Alignment) -> list[str]:
    """Manifold loss and training accuracy before and after; questions without neighbors; an early stop."""
    loss, accuracy, n = alignment["manifold"], alignment["training_accuracy"], alignment["questions"]
    lines = [
        f"Manifold loss of the training questions, which RoMA minimizes: {loss['before']:.4g} with the base routers, "
        f"{loss['after']:.4g} with the trained ones.",
        f"Accuracy on the {n:,} training questions: {accuracy['before']:.1%} ({alignment['successful']:,} right) "
        f"before, {accuracy['after']:.1%} after.",
    ]
    if alignment["without_neighbours"]:
        lines.append(f"{alignment['without_neighbours']:,} of them have no neighbor and train the answer only.")
    stopped = alignment["training"]["stopped"]
    return [*lines, f"{stopped[0].upper()}{stopped[1:]}."] if stopped else lines


def _rerouted(alignment: Alignment) -> list[str]:
    """Cost, references and the control of a method that changes routing per question and trains nothing."""
    flops, wrong = alignment["flops"], alignment["rerouting"].get("wrong", {}).get("overall", {})
    lines = [
        f"Nothing was trained. A question takes {flops['method']:.3g} FLOPs, {flops['ratio']:.1f} times those of the "
        "base model."
    ]
    if alignment["references"] is not None:
        lines.append(
            f"{alignment['references']:,} training questions are references; {alignment['without_neighbours']:,} "
            "evaluation questions have no neighbor among them."
        )
    if wrong.get("questions"):
        lines.append(
            f"The descent turned {wrong['right']:.1%} of {wrong['questions']:,} wrong answers into right ones. The "
            f"same descent towards a random wrong letter reached it in {wrong['control']:.1%}. Only the excess of "
            f"{100 * wrong['excess']:+.1f} points is evidence that the routing could have been better."
        )
    return lines
