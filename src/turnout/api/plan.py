"""`turnout.plan`: MoE shapes for a budget and a goal, or the size and costs of one model (arXiv 2508.18672)."""

import warnings
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from turnout.api.deprecated import former_names
from turnout.api.pages import draw_page
from turnout.errors import RecipeError
from turnout.listener import Listener
from turnout.quantities import parse_count
from turnout.runs.inputs import INPUTS, read_inputs
from turnout.runs.opening import open_run
from turnout.sparsity.config import Goal, Grid, PlanConfig, Use

if TYPE_CHECKING:
    from turnout.sparsity.result import Plan


@former_names()
def plan(
    active: str | float | None = None,
    tokens: str | float | None = None,
    goal: Goal | Literal["memorise"] = "both",
    *,
    of: str | PathLike[str] | None = None,
    out: str | Path | None = None,
    memory: str | float | None = None,
    use: Use = "inference",
    tolerance: float = 0.1,
    context: str | int = 4096,
    width: Sequence[int] | str | int = (),
    layers: Sequence[int] | str | int = (16,),
    experts: Sequence[int] | str | int = (8, 16, 32, 64, 128, 256),
    top_k: Sequence[int] | str | int = (2, 4, 8, 16),
    vocab: Sequence[int] | str | int = (99584,),
    listener: Listener | None = None,
) -> "Plan":
    """List the MoE shapes of a budget, with costs, each law's prediction and a recommendation; or size one model.

    >>> plan = turnout.plan("1.3B", "300B", "reason", memory="80GB")
    >>> plan.recommendation["choices"][0]["reason"], plan.frame()
    >>> turnout.plan(of="OLMoE", tokens="5T").configurations[0]["tpp"]

    Args:
        active: active parameters, embeddings counted: "1.3B", or a number. Needed without `of`, as `tokens` is.
        tokens: training tokens.
        goal: "memorize", "reason" or "both".
        of: size this model instead: a folder, a config.json, a hub id, OLMoE, Qwen3-30B-A3B, DeepSeek-V2-Lite, or
            llm-jp/optimal-sparsity-…. Beside it only `tokens`, `context` and `out` are accepted.
        out: the run's folder, with plan.json and its page; None: a temporary one, removed with the result.
        memory: available memory: "80GB", "24GiB", or a number of bytes; None: no limit.
        use: what must fit into it: "inference" (weights and the cache of one sequence), or "training".
        tolerance: largest difference of active parameters from the budget, as a share of it.
        context: tokens of a sequence: for attention's FLOPs, the cache, and a micro-batch of one sequence.
        width: widths that are searched, as are the numbers that follow: a sequence, one number, or "512,1024".
            None given: multiples of 128 to 8192, of which the nearest to the budget is kept.
        layers: numbers of layers, all with experts.
        experts: numbers of experts of a layer.
        top_k: numbers of experts that a token chooses.
        vocab: vocabulary sizes.
        listener: receives notes.

    Returns:
        `.configurations`, `.recommendation`, `.frame()`, `.table(name)`, `.to_dict()`.

    Raises:
        RecipeError: a value that does not fit, or no legal configuration; the nearest is named.
        ModelError: `of` cannot be read.
        RunError: `out` contains something else.
    """
    from turnout.sparsity.result import Plan
    from turnout.sparsity.run import SizedModel, run
    from turnout.sparsity.shapes import known_size

    if goal == "memorise":
        warnings.warn('turnout.plan: deprecated goal "memorise"; use "memorize"', DeprecationWarning, stacklevel=3)
    budget: dict[str, Any] = {"active": active, "goal": goal, "memory": memory, "use": use, "tolerance": tolerance}
    shapes = {"width": width, "layers": layers, "experts": experts, "top_k": top_k, "vocab": vocab}
    question: PlanConfig | SizedModel
    if of is None:
        question = PlanConfig.of(budget, **shapes, tokens=tokens, context=context)
    else:
        _refuse_beside_a_model(budget | shapes)
        counted = None if tokens is None else parse_count("tokens", tokens)
        question = SizedModel(known_size(of), counted, parse_count("context", context))
    inputs = {"verb": "plan", "question": _as_stored(question.describe(), out)}
    with open_run(out, inputs, listener or Listener()) as folder:
        if not folder.complete:
            run(question, folder)
    draw_page(folder)
    return folder.load(Plan)


def _refuse_beside_a_model(options: dict[str, Any]) -> None:
    fields = PlanConfig.model_fields | Grid.model_fields
    for name, value in options.items():
        if value is not None and value != fields[name].default:
            raise RecipeError(name, expected="tokens or context beside a model", received="an option of a budget")


def _as_stored(question: dict[str, Any], out: str | Path | None) -> dict[str, Any]:
    """The question as the plan in `out` contains it: version 0.1.0 wrote the goal memorize as memorise."""
    if out is not None and question.get("goal") == "memorize" and (Path(out) / INPUTS).is_file():
        stored = read_inputs(Path(out))[0].get("question")
        if isinstance(stored, dict) and stored.get("goal") == "memorise":
            return question | {"goal": "memorise"}
    return question
