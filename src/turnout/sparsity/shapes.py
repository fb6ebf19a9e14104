"""Sizes of MoE shapes (d, L, E, K): the paper's architecture in closed form, a grid's shapes, models by name."""

import json
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from itertools import groupby, product
from os import PathLike
from typing import Any

from turnout.errors import RecipeError
from turnout.models.checkpoint.size import Size
from turnout.ops import layer_activations, parameters
from turnout.quantities import show_count
from turnout.sparsity.config import PlanConfig

PAPER_LAYERS, PAPER_VOCAB = 16, 99584
_WIDTHS = tuple(range(128, 8192 + 1, 128))  # the paper's head size is 128
_RELEASED = re.compile(r"(?:llm-jp/)?optimal-sparsity-(?:math|code)-d(\d+)-E(\d+)-k(\d+)(?:-.*)?")


def shape_size(*, width: int, layers: int, experts: int, top_k: int, vocab: int, name: str | None = None) -> Size:
    """Size of the paper's architecture in closed form: SwiGLU experts of 2d, multi-head attention, untied embeddings.

    Raises:
        ValueError: a number below 1, or K > E.
    """
    wide = 2 * width
    products = 3 * top_k * width * wide + 4 * width**2 + width * experts
    kept = layer_activations(width=width, attention=4 * width, chosen=top_k, hidden=top_k * wide, experts=experts)
    return Size(
        name=name or f"d{width}-L{layers}-E{experts}-k{top_k}",
        width=width,
        layers=layers,
        moe_layers=layers,
        experts=experts,
        top_k=top_k,
        shared=0,
        expert_width=wide,
        vocab=vocab,
        parameters=parameters(width=width, layers=layers, experts=experts, top_k=top_k, vocab=vocab),
        routed=layers * experts * 3 * width * wide,
        active_products=layers * products + vocab * width,
        attention_widths=((2 * width, None),) * layers,
        cache_widths=((2 * width, None),) * layers,
        activations=layers * kept,
    )


def legal_sizes(config: PlanConfig) -> list[Size]:
    """Shapes of the grid with K ≤ E whose active parameters are within the tolerance of the budget.

    If the grid lists no widths, one width is kept for each (L, V, E, K): the nearest to the budget.

    Raises:
        RecipeError: no such shape; the message names the nearest.
    """
    sizes = list(_shapes(config))

    def difference(size: Size) -> float:
        return abs(size.parameters.active - config.active) / config.active

    legal = [size for size in sizes if difference(size) <= config.tolerance]
    if not legal:
        nearest = min(sizes, key=difference)
        expected = f"a shape within {config.tolerance:.0%} of {show_count(config.active)} active parameters"
        received = f"{nearest.name} with {show_count(nearest.parameters.active)} as the nearest"
        do = "give other --width, --layers, --top-k or --vocab"
        raise RecipeError("grid", expected=expected, received=received, do=do)
    return legal if config.grid.width else [min(group, key=difference) for group in _by_all_but_width(legal)]


def _shapes(config: PlanConfig) -> Iterator[Size]:
    grid = config.grid
    for vocab, layers, width in product(grid.vocab, grid.layers, grid.width or _WIDTHS):
        for top_k, experts in product(grid.top_k, grid.experts):
            if top_k <= experts:
                name = f"d{width}-L{layers}-E{experts}-k{top_k}" + (f"-V{vocab}" if len(grid.vocab) > 1 else "")
                yield shape_size(width=width, layers=layers, experts=experts, top_k=top_k, vocab=vocab, name=name)


def _by_all_but_width(sizes: list[Size]) -> list[list[Size]]:
    """Groups of sizes that differ in width alone."""

    def rest(size: Size) -> tuple[int, ...]:
        return (size.vocab, size.layers, size.top_k, size.experts)

    return [list(group) for _, group in groupby(sorted(sizes, key=rest), key=rest)]


def known_size(source: str | PathLike[str]) -> Size:
    """Size of a model: one known by name, a folder or config.json, or a hub id, whose configuration is downloaded.

    Names that need no network: OLMoE, Qwen3-30B-A3B, DeepSeek-V2-Lite, and ids of the paper's checkpoints,
    `llm-jp/optimal-sparsity-{math,code}-d{d}-E{E}-k{k}-…`, whose shape is read from the id.

    Raises:
        RecipeError: an id with K > E or a number of 0.
        ModelError: no known name, and no configuration that can be read.
    """
    name = str(source)
    if shape := _RELEASED.fullmatch(name):
        return _released(name, *map(int, shape.groups()))
    from turnout.models.checkpoint.counting import size_of  # here: a budget alone needs no transformers

    for model in published():
        if name.lower() in {alias.lower() for alias in (model["name"], *model["aliases"])}:
            from transformers import AutoConfig

            settings = dict(model["config"])
            return size_of(AutoConfig.for_model(settings.pop("model_type"), **settings), model["name"])
    return size_of(source)


@cache
def published() -> tuple[dict[str, Any], ...]:
    """Published configurations, each with its source and the sizes that its makers state."""
    return tuple(json.loads(files("turnout.sparsity").joinpath("known.json").read_text(encoding="utf-8")))


def _released(name: str, width: int, experts: int, top_k: int) -> Size:
    try:
        return shape_size(width=width, layers=PAPER_LAYERS, experts=experts, top_k=top_k, vocab=PAPER_VOCAB, name=name)
    except ValueError as error:
        raise RecipeError(name, expected="an id with d, E and k of 1 or more, k at most E", received=error) from error
