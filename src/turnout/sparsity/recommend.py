"""Recommended configuration for a goal, with its reason and its uncertainty."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from turnout.ops import optimal_experts
from turnout.quantities import show_bytes, show_count
from turnout.sparsity.config import PlanConfig

Configuration = Mapping[str, Any]
REASONING_TPP = 20.0
_STEP = math.sqrt(2)  # half a doubling of E: the resolution of the paper's grid
_NEAREST = 1.1
_PAPER_ACTIVE, _PAPER_TOKENS = (170e6, 7.2e9), 125e9

_LAWS_PREDICT_LOSS = (
    "No law predicts reasoning or recall: they predict training loss on their own text. Compare the predictions of one "
    "law with each other, never with those of another law."
)
_REASONING_DOUBTS = (
    "TPP ≈ 20 is where accuracy peaked in one paper (arXiv 2508.18672), which gives no interval; its expert counts are "
    "a factor of two apart, so TPP 14 and 28 can hardly be distinguished. A small independent experiment saw no peak.",
    "Larger K was better at the same TPP there, at the same width, which also raises active parameters. Here these are "
    "held, so that larger K means a narrower model; an earlier version of the paper found that K alone matters little.",
    "With a small active budget sparser was better everywhere there, for reasoning too.",
)


@dataclass(frozen=True)
class Choice:
    """A configuration for a goal.

    Attributes:
        goal: "reason" or "memorize".
        name: of the configuration.
        reason: why it was chosen, in sentences.
        uncertainty: reasons to doubt the choice.
    """

    goal: str
    name: str
    reason: str
    uncertainty: tuple[str, ...]


def recommend(fitting: Sequence[Configuration], config: PlanConfig) -> dict[str, Any]:
    """Choices for `config.goal` among the configurations that fit, as a JSON object."""
    goals = ("reason", "memorize") if config.goal == "both" else (config.goal,)
    choose = {"reason": for_reasoning, "memorize": for_memorizing}
    choices = [choose[goal](fitting, config) for goal in goals]
    return {
        "choices": [
            {"goal": choice.goal, "name": choice.name, "reason": choice.reason, "uncertainty": list(choice.uncertainty)}
            for choice in choices
        ],
        "conflict": _conflict(fitting, choices) if len(choices) == 2 else None,
        "uncertainty": [_LAWS_PREDICT_LOSS, *_beyond_the_paper(config)],
    }


def for_reasoning(fitting: Sequence[Configuration], config: PlanConfig) -> Choice:
    """The largest K among configurations with TPP near 20.

    "Near" is within half a doubling of E of 20, or else within 10 % of the nearest TPP. Ties: the nearest TPP, then the
    nearest to the active budget.
    """

    def distance(one: Configuration) -> float:
        return abs(math.log(one["tpp"] / REASONING_TPP))

    nearest = min(map(distance, fitting))
    near = [one for one in fitting if distance(one) <= max(math.log(_STEP), nearest + math.log(_NEAREST))]
    best = max(near, key=lambda one: (one["top_k"], -round(distance(one), 9), -_off_budget(one, config)))
    reason = f"{best['name']} trains on {best['tpp']:.3g} tokens per total parameter"
    if nearest <= math.log(_STEP):
        reason += f", near the {REASONING_TPP:.0f} where reasoning was best"
    else:
        reason += f": among those that fit, about the nearest to the {REASONING_TPP:.0f} where reasoning was best"
    several = len({one["top_k"] for one in near}) > 1
    reason += "; of the configurations about as near it has the most chosen experts." if several else "."
    return Choice("reason", best["name"], reason + _missed(best, config), _REASONING_DOUBTS)


def _missed(best: Configuration, config: PlanConfig) -> str:
    """The reason that TPP is not near 20, if it is not: the listed numbers of experts, or memory."""
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
        few = "fewer than are chosen" if experts < best["top_k"] else "fewer than listed"
        needed = f"{max(experts, 0):,.1f} experts, {few}"
        return f" At its width TPP {REASONING_TPP:.0f} needs {needed}: more tokens would help."
    bound = f"within {show_bytes(config.memory)} of memory and " if config.memory else ""
    most = max(config.grid.experts)
    return (
        f" At its width TPP {REASONING_TPP:.0f} needs {experts:,.0f} experts; {bound}of the listed numbers (at most "
        f"{most}) {best['experts']} is the nearest."
    )


def for_memorizing(fitting: Sequence[Configuration], config: PlanConfig) -> Choice:
    """The configuration with the most total parameters. Ties: the nearest to the active budget."""
    best = max(fitting, key=lambda one: (one["parameters"]["total"], -_off_budget(one, config)))
    needed = show_bytes(best["memory"][config.use])
    total = show_count(best["parameters"]["total"])
    bound = f"that fit into {show_bytes(config.memory)} ({config.use}: {needed})" if config.memory else "of the grid"
    reason = f"{best['name']} has {total} parameters, the most {bound}: recall grew with total parameters throughout."
    doubts = (
        "Recall grew with total parameters in one paper (arXiv 2508.18672; TriviaQA, HellaSwag), down to TPP 2.4 as we "
        "infer from its grid; the gain of a doubling at this budget is not known.",
        *_at_the_longest_list(best, config),
    )
    return Choice("memorize", best["name"], reason, doubts)


def _at_the_longest_list(best: Configuration, config: PlanConfig) -> tuple[str, ...]:
    if best["experts"] < max(config.grid.experts):
        return ()
    return (f"It has the most experts listed ({best['experts']}): a longer --experts may allow more.",)


def _conflict(fitting: Sequence[Configuration], choices: Sequence[Choice]) -> str:
    by_name = {one["name"]: one for one in fitting}
    reasoning, recall = (by_name[choice.name] for choice in choices)
    if reasoning["name"] == recall["name"]:
        return f"No conflict in this grid: {reasoning['name']} is the choice for both."
    ratio = recall["parameters"]["total"] / reasoning["parameters"]["total"]
    return (
        f"The goals need different models: {reasoning['name']} (TPP {reasoning['tpp']:.3g}) for reasoning, "
        f"{recall['name']} (TPP {recall['tpp']:.3g}, {ratio:.2g} times the parameters) for recall. No published result "
        "weighs one against the other: choose by the purpose of the model."
    )


def _beyond_the_paper(config: PlanConfig) -> list[str]:
    low, high = _PAPER_ACTIVE
    beyond = []
    if not low * 0.9 <= config.active <= high * 1.1:
        beyond.append(f"{show_count(config.active)} active parameters (there 170M to 7.1B)")
    if not 0.5 <= config.tokens / _PAPER_TOKENS <= 2:
        beyond.append(f"{show_count(config.tokens)} tokens (there 125B)")
    return [f"Beyond the models that the paper trained: {' and '.join(beyond)}."] if beyond else []


def _off_budget(one: Configuration, config: PlanConfig) -> float:
    return abs(one["parameters"]["active"] - config.active)
