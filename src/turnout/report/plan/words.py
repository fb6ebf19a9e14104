"""A plan in words: sentences and terminal tables, from plan.json's content."""

from collections.abc import Mapping, Sequence
from typing import Any

from turnout.quantities import show_bytes, show_count
from turnout.report.kit.text import Table, name

Plan = Mapping[str, Any]
Configuration = Mapping[str, Any]

GOALS = {"reason": "reasoning", "memorize": "recall", "memorise": "recall"}  # the last in plans of version 0.1.0
OUTSIDE = "*"
_MOST_ROWS = 12
_SIZES = ("configuration", "total", "active", "w/o emb.", "1 − K/E", "TPP")
_COSTS = ("configuration", "inference FLOPs", "memory", "training FLOPs", "memory")


def plan_sentences(plan: Plan) -> list[str]:
    """What is recommended and why, its uncertainty, what was left out, and the laws with their ranges."""
    lines = [*_recommended(plan), *_left_out(plan)]
    if not plan["configurations"][0]["laws"]:
        return [*lines, "The laws need --tokens."]
    lines += [_law_sentence(plan, at) for at in range(len(plan["laws"]))]
    return [*lines, "Losses of different laws cannot be compared."]


def plan_tables(plan: Plan) -> list[Table]:
    """Sizes, costs and losses by law of at most twelve configurations; of one model, a single table."""
    if plan["kind"] == "model":
        return [model_table(plan)]
    shown = plan["configurations"][:_MOST_ROWS]
    return [_sizes(plan, shown), _costs(shown), _laws(plan, shown)]


def recommended_name(plan: Plan) -> dict[str, list[str]]:
    """Names of the recommended configurations → the goals for which each is recommended."""
    recommended: dict[str, list[str]] = {}
    for choice in (plan["recommendation"] or {"choices": []})["choices"]:
        recommended.setdefault(choice["name"], []).append(GOALS[choice["goal"]])
    return recommended


def size_cells(one: Configuration) -> tuple[str, ...]:
    """Total, active and active without embeddings, sparsity, tokens per parameter."""
    parameters, tpp = one["parameters"], one["tpp"]
    counts = (show_count(parameters[name]) for name in ("total", "active", "active_non_embedding"))
    return (*counts, f"{one['sparsity']:.3f}", "–" if tpp is None else f"{tpp:.3g}" if tpp < 1000 else f"{tpp:,.0f}")


def cost_cells(one: Configuration) -> tuple[str, ...]:
    """Inference FLOPs per token and memory; FLOPs of the whole training and memory."""
    flops, memory = one["flops"], one["memory"]
    training = "–" if flops["training_total"] is None else scientific(flops["training_total"])
    return (
        scientific(flops["inference"]),
        show_bytes(memory["inference"]),
        training,
        show_bytes(memory["training"]),
    )


def law_cell(prediction: Mapping[str, Any]) -> str:
    """A law's loss, with * outside the range on which it was fitted; a dash where the law does not apply."""
    if prediction["loss"] is None:
        return "–"
    return f"{prediction['loss']:.3f}" + ("" if prediction["in_range"] else OUTSIDE)


def law_words(prediction: Mapping[str, Any]) -> str:
    """A law's loss and everything in which the configuration is outside its range, or why it does not apply."""
    if prediction["loss"] is None:
        return f"does not apply: {prediction['reason']}"
    outside = "; ".join(prediction["warnings"])
    return f"{prediction['loss']:.3f}" + (f" (outside its range: {outside})" if outside else "")


def scientific(value: float) -> str:
    """3.94e22."""
    return f"{value:.2e}".replace("e+", "e")


def model_table(plan: Plan) -> Table:
    """One model's shape, size and costs, a row each."""
    one = plan["configurations"][0]
    parameters, flops, memory = one["parameters"], one["flops"], one["memory"]
    rows = [
        ("shape", f"{one['layers']} layers ({one['moe_layers']} with experts) of width {one['width']:,}"),
        ("experts", _experts(one)),
        ("total parameters", f"{parameters['total']:,} ({show_count(parameters['total_non_embedding'])} without emb.)"),
        ("active parameters", f"{parameters['active']:,} ({show_count(parameters['active_non_embedding'])} without)"),
        ("sparsity 1 − K/E", f"{one['sparsity']:.4f}"),
        ("inference FLOPs per token", f"{scientific(flops['inference'])} (2·N: {scientific(flops['inference_2n'])})"),
        ("training FLOPs per token", f"{scientific(flops['training'])} (6·N: {scientific(flops['training_6n'])})"),
        ("weights, bfloat16", show_bytes(memory["weights"])),
        (f"cache of {flops['context']:,} tokens", show_bytes(memory["cache"])),
        ("training memory", f"{show_bytes(memory['training'])} (activations {show_bytes(memory['activations'])})"),
    ]
    if one["tpp"] is not None:
        rows += [("tokens per parameter", f"{one['tpp']:,.4g}"), ("training FLOPs", _training(flops))]
    rows += [("note", note) for note in one["notes"]]
    return Table(name(one["name"], 60), ("size", ""), tuple(rows))


def _experts(one: Configuration) -> str:
    shared = f", {one['shared']} shared" if one["shared"] else ""
    return f"{one['top_k']} of {one['experts']} per token, width {one['expert_width']:,}{shared}"


def _training(flops: Mapping[str, Any]) -> str:
    return f"{scientific(flops['training_total'])} (6·N·D: {scientific(flops['training_total_6n'])})"


def _sizes(plan: Plan, shown: Sequence[Configuration]) -> Table:
    question, recommended = plan["question"], recommended_name(plan)
    budget = f"{show_count(question['active'])} active ± {question['tolerance']:.0%}"
    title = f"{budget}, {show_count(question['tokens'])} tokens; → recommended"
    rows = ((("→ " if one["name"] in recommended else "  ") + _name(one), *size_cells(one)) for one in shown)
    return Table(title, _SIZES, tuple(rows))


def _costs(shown: Sequence[Configuration]) -> Table:
    rows = tuple((_name(one), *cost_cells(one)) for one in shown)
    return Table("costs: inference per token, training in total", _COSTS, rows)


def _laws(plan: Plan, shown: Sequence[Configuration]) -> Table:
    rows = tuple((_name(one), *map(law_cell, one["laws"])) for one in shown)
    title = f"training loss by law ({OUTSIDE} outside its range)"
    return Table(title, ("configuration", *(law["name"] for law in plan["laws"])), rows)


def _name(one: Configuration) -> str:
    return name(one["name"], 60)


def _law_sentence(plan: Plan, at: int) -> str:
    """One law: source and range, how many configurations are inside, and its loss for the first configuration."""
    law, configurations = plan["laws"][at], plan["configurations"]
    about = f"{law['name']} ({law['source']}), fitted on {law['fitted_on']}."
    if len(configurations) > 1:
        about += f" It applies to {law['applied']} of {len(configurations)}, {law['in_range']} in range"
        about += f", lowest for {law['best']}." if law["best"] else "."
    return f"{about} {_name(configurations[0])}: {law_words(configurations[0]['laws'][at])}."


def _recommended(plan: Plan) -> list[str]:
    recommendation = plan["recommendation"]
    if recommendation is None:
        return []
    lines = [line for choice in recommendation["choices"] for line in _choice(choice)]
    return [*lines, *filter(None, [recommendation["conflict"]]), *recommendation["uncertainty"]]


def _choice(choice: Mapping[str, Any]) -> list[str]:
    title = f"For {GOALS[choice['goal']]}"
    return [f"{title}: {choice['reason']}", *(f"  but: {doubt}" for doubt in choice["uncertainty"])]


def _left_out(plan: Plan) -> list[str]:
    more, lines = len(plan["configurations"]) - _MOST_ROWS, []
    if more > 0:
        lines.append(f"The JSON has {more} more configurations.")
    if plan["left_out"]:
        question = plan["question"]
        memory = show_bytes(question["memory"])
        lines.append(f"Left out: {len(plan['left_out'])} that need more than {memory} for {question['use']}.")
    return lines
