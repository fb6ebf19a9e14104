"""What a trained model is asked: facts and chains, by loss on the gold solution and by what it writes itself."""

import math
from collections.abc import Iterator
from itertools import islice
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from turnout.reasoning.answered import answered
from turnout.sparsity.sweep.recipe import Asked
from turnout.tasks.exercises import Exercise, chains, facts
from turnout.tasks.exercises.generated import FACT_BITS
from turnout.training import TrainRecipe

_TEST_SEED = 1_000_003  # of chains that are asked; training draws its own from the worlds' seed


def ask(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, recipe: TrainRecipe, asked: Asked
) -> dict[str, dict[str, Any]]:
    """Figures of each task: `facts`, and `chains-N` for each number N of operations.

    Returns:
        {task: `n`, `nats_per_token` and `nats_per_byte` of the gold solution (each averaged over exercises), `accuracy`
        of the final answer that the model writes greedily, its 95 % Wilson `interval`; for facts also
        `bits_per_parameter`: Σ max(0, bits of a value − bits of its loss), scaled to all facts, over all parameters}.
    """
    parameters = sum(p.numel() for p in model.parameters())
    found = {}
    for name, exercises, known in _tasks(recipe, asked):
        answers = answered(model, tokenizer, exercises)
        found[name] = answers.figures()
        if known:
            values = [len(tokenizer(f" {one.answer}", add_special_tokens=False)["input_ids"]) for one in exercises]
            lost = [sum(of[:n]) / math.log(2) for of, n in zip(answers.nats, values, strict=True)]
            kept = sum(max(0.0, FACT_BITS - bits) for bits in lost) / len(lost)
            found[name]["bits_per_parameter"] = kept * known / parameters
    return found


def _tasks(recipe: TrainRecipe, asked: Asked) -> Iterator[tuple[str, list[Exercise], int]]:
    """(name, exercises, how many facts training holds or 0)."""
    seed = recipe.seed if recipe.data.worlds_seed is None else recipe.data.worlds_seed
    taught: set[int] = set()
    for source in recipe.data.sources:
        if source.facts is not None and asked.facts:
            yield source.name, list(islice(facts(source.facts, seed), asked.facts)), source.facts
        taught |= set(source.chains or ())
    for level in sorted(taught | set(asked.levels)) if asked.chains else ():
        yield f"chains-{level}", list(chains("test", asked.chains, (level,), _TEST_SEED)), 0
