"""Settings of the ERC loss in training, and of the measurement of coupling."""

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainValidator, field_validator, model_validator

from turnout.errors import RecipeError
from turnout.settings import Settings, comma_separated

Alpha = float | Mapping[int, float] | Callable[[int], float]
"""α: one number; decoder layer → number; or optimizer step, from 0 → number."""
Gradient = Literal["both", "router", "gate"]
Reduction = Literal["mean", "sum"]
Pairing = Literal["own", "permuted"]
Place = Literal["gate", "up", "activated", "gated", "output"]
LossTerm = Literal["erc", "orthogonality"]
Scope = Literal["last", "all"]


def _alpha(value: Any) -> Alpha:
    """A number, numbers by layer, or a function, checked; text is a number."""
    if callable(value):
        return value  # its numbers are checked at each step
    if isinstance(value, Mapping):
        return {int(layer): _alpha_number(number) for layer, number in value.items()}
    return _alpha_number(value)


def _alpha_number(value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise ValueError("finite numbers of 0 or more")
    return number


def _layers(value: object) -> object:
    """Layer numbers as a tuple: "0+2" as ("0", "2")."""
    if isinstance(value, str):
        return tuple(value.split("+"))
    return tuple(value) if isinstance(value, list | set | frozenset | range) else value


class CoupleConfig(Settings):
    """How a model is coupled while it trains (ERC loss, arXiv 2512.23447).

    Raises:
        RecipeError: a value that does not fit.
    """

    alpha: Annotated[Alpha, PlainValidator(_alpha)] = 1.0
    """α, 0 or more: of every layer, of each decoder layer, or a function of the step; the paper: 1 at 3B, .5 at 15B."""
    weight: float = Field(default=1.0, ge=0)
    """Weight of the term in the loss; the paper: 1. 0 adds nothing and only logs."""
    gradient: Gradient = "both"
    """Where the term's gradient flows: router rows and gate matrices, or one of the two."""
    reduction: Reduction = "mean"
    """Reduction over layers."""
    noise: bool = True
    """Whether proxies are router rows with noise; without it: the paper's ablation."""
    pairing: Pairing = "own"
    """Whether proxy i belongs to expert i, or to another expert, drawn once from the seed: a control."""
    normalized: bool = Field(default=False, serialization_alias="normalised")
    """Compute M for rows and matrices of length 1, so that smaller weights do not lower the loss."""
    layers: Annotated[tuple[int, ...] | None, BeforeValidator(_layers)] = None
    """Decoder layers to couple; every MoE layer by default."""
    seed: int = 0
    """Seed of noise and permutation."""
    place: Place = "gate"
    """Where in an expert M is computed: after the gate product, or at one of the paper's ablations."""
    term: LossTerm = "erc"
    """The ERC loss, or orthogonality of the router's rows, a baseline."""

    @model_validator(mode="after")
    def _term_has_gradient(self) -> Self:
        if self.gradient == "gate" and self.term == "orthogonality":
            raise ValueError("gradient must be both or router: orthogonality has no gates")
        return self

    @classmethod
    def parse(cls, text: str, **defaults: Any) -> Self:
        """The settings in `alpha=1,weight=10,normalized=true,layers=0+2`.

        Args:
            text: items NAME=VALUE, separated by commas; of two with one name, the last is used.
            **defaults: settings that the text may change.

        Raises:
            RecipeError: an item without "=", an unknown name, or a value that does not fit.
        """
        options = dict(defaults)
        for item in filter(None, (part.strip() for part in text.split(","))):
            name, equals, value = (part.strip() for part in item.partition("="))
            if not equals:
                raise RecipeError(item, expected="name=value, separated by commas", received=repr(item))
            options[name] = value
        return cls.of(options)

    def alpha_at(self, layer: int, step: int) -> float:
        """α of decoder layer `layer` at optimizer step `step`.

        Raises:
            RecipeError: a mapping without the layer, or a function that returns no finite number of 0 or more.
        """
        if not isinstance(self.alpha, Mapping) and not callable(self.alpha):
            return self.alpha
        alpha = self.alpha(step) if callable(self.alpha) else self.alpha.get(layer)
        if alpha is None:
            raise RecipeError("alpha", expected=f"a number for layer {layer}", received="none")
        try:
            return _alpha_number(alpha)
        except ValueError as error:
            raise RecipeError("alpha", expected=str(error), received=repr(alpha)) from error

    def describe(self) -> dict[str, Any]:
        """The values as JSON, as a run's inputs.json contains them.

        Raises:
            RecipeError: α is a function, which a run cannot record.
        """
        if callable(self.alpha):
            raise RecipeError("alpha", expected="a number or a mapping, to be recorded", received="a function")
        described = super().describe()
        if self.place == "gate":
            del described["place"]  # runs of before there was a choice have no such key
        return described


class MeasureConfig(Settings):
    """How coupling is measured.

    Raises:
        RecipeError: a value that does not fit.
    """

    alphas: Annotated[tuple[float, ...], BeforeValidator(comma_separated)] = Field(
        default=(1.0, 2.0, 3.0, 4.0, 5.0), examples=["numbers such as 1,2,3"], json_schema_extra={"metavar": "A,A,…"}
    )
    """Values of α at which the ERC loss is computed."""
    permutations: int = Field(default=9999, ge=199)
    """Random pairings of router rows with experts, the null distribution."""
    resamples: int = Field(default=2000, ge=200)
    """Bootstrap draws of each interval."""
    scope: Scope = "all"
    """Tokens of a question that are read: all, or the last, which in most prompts is the same token every time."""
    token_budget: int = Field(default=1024, ge=1)
    """Most tokens of a batch, padding included; a longer prompt is a batch alone."""
    seed: int = Field(default=0, ge=0)
    """Seed of the pairings and resamples."""

    @field_validator("alphas")
    @classmethod
    def _different_finite(cls, alphas: tuple[float, ...]) -> tuple[float, ...]:
        valid = all(math.isfinite(alpha) and alpha >= 0 for alpha in alphas)
        if not alphas or not valid or len(set(alphas)) < len(alphas):
            raise ValueError("different finite numbers of 0 or more")
        return alphas
