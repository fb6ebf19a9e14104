"""Settings of a plan: a budget, a goal, and the grid of shapes that is searched."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from turnout.errors import RecipeError
from turnout.quantities import parse_bytes, parse_count
from turnout.settings import Settings

Goal = Literal["memorize", "reason", "both"]
Use = Literal["inference", "training"]


def _count(value: Any, field: ValidationInfo) -> int:
    return parse_count(field.field_name or "", value)


def _bytes(value: Any, field: ValidationInfo) -> int | None:
    return None if value is None else parse_bytes(field.field_name or "", value)


def _counts(value: Any, field: ValidationInfo) -> tuple[int, ...]:
    """Whole numbers, each once, ascending, from "8,16", 8 or [8, 16]."""
    listed = value.split(",") if isinstance(value, str) else value
    parts: Iterable[Any] = listed if isinstance(listed, Iterable) else [listed]
    return tuple(sorted({parse_count(field.field_name or "", part) for part in parts}))


Count = Annotated[int, BeforeValidator(_count)]
Counts = Annotated[tuple[int, ...], BeforeValidator(_counts)]
_LIST: dict[str, Any] = {"text": True, "metavar": "N,N,…"}


class Grid(Settings):
    """Shapes that are searched; the defaults are those of arXiv 2508.18672, with more widths.

    Raises:
        RecipeError: a list without a value, or a value below 1.
    """

    width: Counts = Field(default=(), json_schema_extra=_LIST)
    """Widths of the hidden state. [default: multiples of 128 to 8192, of which the nearest to the budget is kept]"""
    layers: Counts = Field(default=(16,), min_length=1, json_schema_extra=_LIST)
    """Numbers of layers, all with experts."""
    experts: Counts = Field(default=(8, 16, 32, 64, 128, 256), min_length=1, json_schema_extra=_LIST)
    """Numbers of experts of a layer."""
    top_k: Counts = Field(default=(2, 4, 8, 16), min_length=1, json_schema_extra=_LIST)
    """Numbers of experts that a token chooses."""
    vocab: Counts = Field(default=(99584,), min_length=1, json_schema_extra=_LIST)
    """Vocabulary sizes: rows of each of the two embeddings."""

    @model_validator(mode="after")
    def _one_shape_at_least(self) -> Self:
        if min(self.top_k) > max(self.experts):
            received = f"{min(self.top_k)} chosen of {max(self.experts)}"
            raise RecipeError("top_k", expected="no more chosen experts than there are", received=received)
        return self


class PlanConfig(Settings):
    """Budget and goal of a plan. Sizes are numbers, or text such as 170M, 1.3B, 80GB.

    Raises:
        RecipeError: a value that does not fit.
    """

    active: Count = Field(examples=["1.3B"], json_schema_extra={"text": True, "metavar": "SIZE"})
    """Active parameters, embeddings counted: 170M, 1.3B."""
    tokens: Count = Field(examples=["5T"], json_schema_extra={"text": True, "metavar": "SIZE"})
    """Training tokens: 125B, 5T."""
    goal: Annotated[Goal, BeforeValidator(lambda goal: "memorize" if goal == "memorise" else goal)] = Field(
        default="both",
        examples=["memorize, reason or both"],
        json_schema_extra={"metavar": "memorize|reason|both"},
    )
    """Purpose of the model: recall, reasoning, or both, which gives a choice for each."""
    memory: Annotated[int | None, BeforeValidator(_bytes)] = Field(
        default=None, json_schema_extra={"text": True, "metavar": "BYTES"}
    )
    """Available memory: 80GB, 24GiB. [default: no limit]"""
    use: Use = Field(default="inference", json_schema_extra={"option": "--for"})
    """What must fit into the memory: weights and the cache of one sequence, or training's state and activations."""
    tolerance: float = Field(default=0.1, gt=0, lt=1)
    """Largest difference of active parameters from the budget, as a share of it."""
    context: Count = Field(default=4096, json_schema_extra={"text": True, "metavar": "N"})
    """Tokens of a sequence: for attention's FLOPs, the cache, and a micro-batch of one sequence."""
    grid: Grid = Grid()

    @classmethod
    def of(cls, options: Mapping[str, Any] = MappingProxyType({}), /, **named: Any) -> Self:
        """The settings with `options`, those of the grid among them; None stands for the default.

        Raises:
            RecipeError: an unknown option, a missing one, or a value that does not fit.
        """
        given = {**options, **named}
        shapes = {name: given.pop(name) for name in Grid.model_fields if name in given}
        return super().of({"grid": Grid.of(shapes)} | given)
