"""What a trained model is asked: facts and chains, by loss on the gold solution and by what it writes itself."""

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from turnout import ops
from turnout.models.answers import answer_nats
from turnout.models.greedy import continue_greedily
from turnout.sparsity.sweep.recipe import Asked
from turnout.tasks.exercises import Exercise, chains, facts, parse_answer
from turnout.tasks.exercises.facts import BITS
from turnout.training import TrainRecipe

_BATCH = 200
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
        found[name] = _figures(model, tokenizer, exercises)
        if known:
            lost = found[name].pop("answer_bits")
            kept = sum(max(0.0, BITS - bits) for bits in lost) / len(lost)
            found[name]["bits_per_parameter"] = kept * known / parameters
        else:
            found[name].pop("answer_bits")
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


def _figures(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, exercises: Sequence[Exercise]
) -> dict[str, Any]:
    prompts = [tokenizer(one.prompt, add_special_tokens=False)["input_ids"] for one in exercises]
    solutions = [tokenizer(f" {one.solution}", add_special_tokens=False)["input_ids"] for one in exercises]
    nats: list[list[float]] = []
    written: list[list[int]] = []
    for at in range(0, len(exercises), _BATCH):
        batch = slice(at, at + _BATCH)
        nats += answer_nats(model, prompts[batch], solutions[batch])
        written += continue_greedily(model, prompts[batch], max(map(len, solutions[batch])) + 1)
    said = [parse_answer(tokenizer.decode(ids), one.kind) for ids, one in zip(written, exercises, strict=True)]
    right = sum(answer == one.answer for answer, one in zip(said, exercises, strict=True))
    n = len(exercises)
    return {
        "n": n,
        "nats_per_token": sum(math.fsum(of) / len(of) for of in nats) / n,
        "nats_per_byte": sum(
            math.fsum(of) / len(one.solution.encode()) for of, one in zip(nats, exercises, strict=True)
        )
        / n,
        "accuracy": right / n,
        "interval": list(ops.wilson(right, n)),
        "no_answer": sum(answer is None for answer in said) / n,
        "answer_bits": [of[0] / math.log(2) for of in nats],
    }
