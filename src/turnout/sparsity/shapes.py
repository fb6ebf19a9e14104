"""Shapes (d, L, E, K): of the architecture of arXiv 2508.18672, of a grid within a budget, of models known by name."""

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


def shape_size(*, width: int, layers: int, experts: int, top_k: int, vocab: int, name: str | None = None) -> Size:
    """The size of the paper's architecture in closed form: SwiGLU experts of 2d, plain multi-head attention, untied.

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
    """The grid's shapes with K ≤ E whose active parameters are within the tolerance of the budget.

    Where no widths were asked for, one width is kept for each (L, V, E, K): the nearest to the budget.

    Raises:
        RecipeError: there is none; the message names the nearest.
    """
    every = list(_shapes(config))

    def off(size: Size) -> float:
        return abs(size.parameters.active - config.active) / config.active

    found = [size for size in every if off(size) <= config.tolerance]
    if not found:
        nearest = min(every, key=off)
        expected = f"a shape within {config.tolerance:.0%} of {show_count(config.active)} active parameters"
        received = f"{nearest.name} with {show_count(nearest.parameters.active)} as the nearest"
        raise RecipeError(
            "grid", expected=expected, received=received, do="give other --width, --layers, --top-k or --vocab"
        )
    return found if config.grid.width else [min(alike, key=off) for alike in _but_for_width(found)]


def _shapes(config: PlanConfig) -> Iterator[Size]:
    grid = config.grid
    for vocab, layers, width in product(grid.vocab, grid.layers, grid.width or _WIDTHS):
        for top_k, experts in product(grid.top_k, grid.experts):
            if top_k <= experts:
                name = f"d{width}-L{layers}-E{experts}-k{top_k}" + (f"-V{vocab}" if len(grid.vocab) > 1 else "")
                yield shape_size(width=width, layers=layers, experts=experts, top_k=top_k, vocab=vocab, name=name)


def _but_for_width(sizes: list[Size]) -> list[list[Size]]:
    def rest(size: Size) -> tuple[int, ...]:
        return (size.vocab, size.layers, size.top_k, size.experts)

    return [list(alike) for _, alike in groupby(sorted(sizes, key=rest), key=rest)]


_RELEASED = re.compile(r"(?:llm-jp/)?optimal-sparsity-(?:math|code)-d(\d+)-E(\d+)-k(\d+)(?:-.*)?")


def known_size(source: str | PathLike[str]) -> Size:
    """The size of a model by its name, of one on disk, or of a hub id (whose configuration is fetched).

    Names that need no network: OLMoE, Qwen3-30B-A3B, DeepSeek-V2-Lite, and ids of the paper's checkpoints,
    `llm-jp/optimal-sparsity-{math,code}-d{d}-E{E}-k{k}-…`, whose shape is read from the id.

    Raises:
        RecipeError: an id with K > E or a number of 0.
        ModelError: neither known nor readable.
    """
    name = str(source)
    if shape := _RELEASED.fullmatch(name):
        return _released(name, *map(int, shape.groups()))
    from turnout.models.checkpoint.counting import size_of  # only now: a budget alone needs no transformers

    for model in published():
        if name.lower() in {alias.lower() for alias in (model["name"], *model["aliases"])}:
            from transformers import AutoConfig

            settings = dict(model["config"])
            return size_of(AutoConfig.for_model(settings.pop("model_type"), **settings), model["name"])
    return size_of(source)


@cache
def published() -> tuple[dict[str, Any], ...]:
    """The published configurations, each with where it was published."""
    return tuple(json.loads(files("turnout.sparsity").joinpath("known.json").read_text(encoding="utf-8")))


def _released(name: str, width: int, experts: int, top_k: int) -> Size:
    try:
        return shape_size(width=width, layers=PAPER_LAYERS, experts=experts, top_k=top_k, vocab=PAPER_VOCAB, name=name)
    except ValueError as error:
        raise RecipeError(name, expected="an id with d, E and k of 1 or more, k at most E", received=error) from error
