"""Which configuration a goal asks for, with the reason, and with what speaks against it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from turnout.ops import optimal_experts
from turnout.quantities import show_bytes, show_count
from turnout.sparsity.config import PlanConfig

Configuration = Mapping[str, Any]
REASONING_TPP = 20.0
_STEP = math.sqrt(2)  # half a doubling of E: what the paper's grid can tell apart
_NEAREST = 1.1
_PAPER_ACTIVE, _PAPER_TOKENS = (170e6, 7.2e9), 125e9

_LAWS_SAY_NOTHING = (
    "No law predicts reasoning or recall: they predict training loss on their own text. Compare a law's numbers with "
    "its own, never with another's."
)


@dataclass(frozen=True)
class Choice:
    """A configuration for a goal.

    Attributes:
        goal: "reason" or "memorise".
        name: of the configuration.
        reason: why this one, in sentences.
        uncertainty: what speaks against trusting it.
    """

    goal: str
    name: str
    reason: str
    uncertainty: tuple[str, ...]


def recommend(found: Sequence[Configuration], config: PlanConfig) -> dict[str, Any]:
    """The choices that `config.goal` asks for among configurations that fit, as a JSON object."""
    goals = ("reason", "memorise") if config.goal == "both" else (config.goal,)
    makers = {"reason": for_reasoning, "memorise": for_memorising}
    choices = [makers[goal](found, config) for goal in goals]
    return {
        "choices": [
            {"goal": choice.goal, "name": choice.name, "reason": choice.reason, "uncertainty": list(choice.uncertainty)}
            for choice in choices
        ],
        "conflict": _conflict(found, choices) if len(choices) == 2 else None,
        "uncertainty": [_LAWS_SAY_NOTHING, *_beyond_the_paper(config)],
    }


def for_reasoning(found: Sequence[Configuration], config: PlanConfig) -> Choice:
    """TPP near 20, and of those within half a doubling of E of it the largest K; ties: the nearest TPP, then budget."""

    def far(one: Configuration) -> float:
        return abs(math.log(one["tpp"] / REASONING_TPP))

    nearest = min(map(far, found))
    near = [one for one in found if far(one) <= max(math.log(_STEP), nearest + math.log(_NEAREST))]
    best = max(near, key=lambda one: (one["top_k"], -round(far(one), 9), -_off(one, config)))
    reason = f"{best['name']} trains on {best['tpp']:.3g} tokens per total parameter"
    if nearest <= math.log(_STEP):
        reason += f", near the {REASONING_TPP:.0f} where reasoning was best"
    else:
        reason += f": among what fits, about the nearest to the {REASONING_TPP:.0f} where reasoning was best"
    others = len({one["top_k"] for one in near}) > 1
    reason += "; of the configurations about as near it chooses the most experts." if others else "."
    return Choice("reason", best["name"], reason + _missed(best, config), _REASONING_DOUBTS)


_REASONING_DOUBTS = (
    "TPP ≈ 20 is where accuracy peaked in one paper (arXiv 2508.18672), which gives no interval; its expert counts are "
    "a factor of two apart, so TPP 14 and 28 are hardly told apart. A small independent try saw no peak.",
    "Larger K was better at the same TPP there, at the same width, which also raises active parameters. Here these are "
    "held, so that larger K means a narrower model; an earlier version of the paper found that K alone matters little.",
    "With a small active budget sparser was better everywhere there, for reasoning too.",
)


def _missed(best: Configuration, config: PlanConfig) -> str:
    """Why TPP is not near 20, where it is not: the list of experts, or memory."""
    experts = optimal_experts(
        tokens=config.tokens,
        tpp=REASONING_TPP,
        width=best["width"],
        layers=best["layers"],
        vocab=best["vocab"],
        expert_width=best["expert_width"],
    )
    if abs(math.log(best["tpp"] / REASONING_TPP)) <= math.log(_STEP):
        return ""
    if experts < best["experts"]:
        had = "fewer than it chooses" if experts < best["top_k"] else "fewer than listed"
        needed = f"{max(experts, 0):,.1f} experts, {had}"
        return f" At its width TPP {REASONING_TPP:.0f} needs {needed}: more tokens would help."
    bound = f"within {show_bytes(config.memory)} of memory and " if config.memory else ""
    most = max(config.grid.experts)
    return (
        f" At its width TPP {REASONING_TPP:.0f} needs {experts:,.0f} experts; {bound}of the listed numbers (at most "
        f"{most}) {best['experts']} is as near as it gets."
    )


def for_memorising(found: Sequence[Configuration], config: PlanConfig) -> Choice:
    """The most total parameters; ties: the nearest to the active budget."""
    best = max(found, key=lambda one: (one["parameters"]["total"], -_off(one, config)))
    held = show_bytes(best["memory"][config.use])
    total = show_count(best["parameters"]["total"])
    bound = f"that fit into {show_bytes(config.memory)} ({config.use}: {held})" if config.memory else "of the grid"
    reason = f"{best['name']} has {total} parameters, the most {bound}: recall grew with total parameters throughout."
    doubts = (
        "Recall grew with total parameters in one paper (arXiv 2508.18672; TriviaQA, HellaSwag), down to TPP 2.4 as we "
        "infer from its grid; how much a doubling is worth at this budget is not known.",
        *_unbound(best, config),
    )
    return Choice("memorise", best["name"], reason, doubts)


def _unbound(best: Configuration, config: PlanConfig) -> tuple[str, ...]:
    if best["experts"] < max(config.grid.experts):
        return ()
    listed = f"It has the most experts listed ({best['experts']})"
    return (f"{listed}: a longer --experts may allow more.",)


def _conflict(found: Sequence[Configuration], choices: Sequence[Choice]) -> str:
    by_name = {one["name"]: one for one in found}
    reasoning, memorising = (by_name[choice.name] for choice in choices)
    if reasoning["name"] == memorising["name"]:
        return f"No conflict in this grid: {reasoning['name']} is the choice for both."
    ratio = memorising["parameters"]["total"] / reasoning["parameters"]["total"]
    return (
        f"The goals want different models: {reasoning['name']} (TPP {reasoning['tpp']:.3g}) for reasoning, "
        f"{memorising['name']} (TPP {memorising['tpp']:.3g}, {ratio:.2g} times the parameters) for recall. Nothing "
        "published says how to weigh one against the other: choose by what the model is for."
    )


def _beyond_the_paper(config: PlanConfig) -> list[str]:
    low, high = _PAPER_ACTIVE
    beyond = []
    if not low * 0.9 <= config.active <= high * 1.1:
        beyond.append(f"{show_count(config.active)} active parameters (there 170M to 7.1B)")
    if not 0.5 <= config.tokens / _PAPER_TOKENS <= 2:
        beyond.append(f"{show_count(config.tokens)} tokens (there 125B)")
    return [f"Beyond what the paper trained: {' and '.join(beyond)}."] if beyond else []


def _off(one: Configuration, config: PlanConfig) -> float:
    return abs(one["parameters"]["active"] - config.active)
