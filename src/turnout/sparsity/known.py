"""Models known by name: a few published configurations, and the checkpoints of arXiv 2508.18672 by their ids."""

import json
import re
from functools import cache
from importlib.resources import files
from os import PathLike
from typing import Any

from turnout.errors import RecipeError
from turnout.models.checkpoint.size import Size
from turnout.sparsity.shapes import PAPER_LAYERS, PAPER_VOCAB, shape_size

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
