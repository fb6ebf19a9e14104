"""Settings of an import of routed-expert ids."""

from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator

from turnout.settings import Settings


def _layer_numbers(value: object) -> object:
    """Numbers in order: "1-3,7" as (1, 2, 3, 7); a list as a tuple."""
    if not isinstance(value, str):
        return tuple(value) if isinstance(value, list) else value
    numbers: list[int] = []
    for part in value.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError("numbers such as 1-27 or 0,2,4")
        numbers += range(int(first), int(last or first) + 1)
    return tuple(numbers)


def _layers_by_k(value: object) -> object:
    """Layers by K: "48x8" as (48, 8)."""
    if not isinstance(value, str):
        return tuple(value) if isinstance(value, list) else value
    n_layers, cross, k = value.lower().partition("x")
    if not cross or not n_layers.isdecimal() or not k.isdecimal():
        raise ValueError("LAYERSxK such as 48x8")
    return int(n_layers), int(k)


class ImportConfig(Settings):
    """How arrays of chosen experts are read.

    Raises:
        RecipeError: a value that does not fit.
    """

    experts: int = Field(ge=1)
    """Routed experts of a layer, E; the largest id in the file need not be the last."""
    layers: Annotated[tuple[int, ...] | None, BeforeValidator(_layer_numbers)] = Field(
        default=None, examples=["numbers such as 1-27 or 0,2,4"], json_schema_extra={"metavar": "N-N,N,…"}
    )
    """Decoder layers: 1-27 or 0,2,4. One for each layer of the array, or fewer: those to keep. [default: 0, 1, …]"""
    shape: Annotated[tuple[int, int] | None, BeforeValidator(_layers_by_k)] = Field(
        default=None, examples=["LAYERSxK such as 48x8"], json_schema_extra={"metavar": "LAYERSxK"}
    )
    """LAYERSxK of numbers that are stored without their shape, as SGLang's: 48x8."""
    shared: int = Field(default=0, ge=0)
    """Shared experts of a layer, which no router chooses."""
    prompt_only: bool = False
    """Leave the answer's tokens out; each sample must have `prompt_tokens`."""
    model: str | None = None
    """Name of the model. [default: the file's name]"""

    @field_validator("layers")
    @classmethod
    def _ascending(cls, layers: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if layers is not None and (not layers or min(layers) < 0 or list(layers) != sorted(set(layers))):
            raise ValueError("decoder layers from 0, ascending, each once")
        return layers

    @field_validator("shape")
    @classmethod
    def _positive(cls, shape: tuple[int, int] | None) -> tuple[int, int] | None:
        if shape is not None and min(shape) < 1:
            raise ValueError("LAYERSxK, 1 or more each")
        return shape
