"""What of the ERC loss can be chosen."""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self, get_args, get_type_hints

from turnout.errors import RecipeError

Alpha = float | Mapping[int, float] | Callable[[int], float]
"""α: one number; decoder layer → number; or optimiser step, from 0 → number."""
Place = Literal["gate", "up", "activated", "gated", "output"]


@dataclass(frozen=True, kw_only=True)
class CoupleConfig:
    """How a model is coupled (ERC loss, arXiv 2512.23447).

    Args:
        alpha: α of every layer, of each decoder layer, or of each optimiser step; at least 0. The paper has 1 at 3B
            and 0.5 at 15B.
        weight: what the term is multiplied by before it is added to the loss; the paper has 1.
        gradient: what learns from it: router rows and gate matrices ("both"), or only "router" or "gate".
        reduction: "mean" or "sum" over layers.
        noise: proxies are router rows with noise; False is the paper's ablation.
        pairing: "own": proxy i belongs to expert i; "permuted": to another expert, drawn once from the seed, a control.
        normalised: M for rows and matrices of length 1, so that shrinking weights is no way out.
        layers: decoder layers to couple; None: every MoE layer.
        seed: of noise and permutation.
        place: where M is read: the "gate" product, or, as the paper's ablations, the "up" product, what is "activated",
            what is "gated" (SwiGLU), or the expert's "output".
        term: "erc", or "orthogonality" of the router's rows instead, a baseline.

    Raises:
        RecipeError: a value that does not fit.
    """

    alpha: Alpha = 1.0
    weight: float = 1.0
    gradient: Literal["both", "router", "gate"] = "both"
    reduction: Literal["mean", "sum"] = "mean"
    noise: bool = True
    pairing: Literal["own", "permuted"] = "own"
    normalised: bool = False
    layers: tuple[int, ...] | None = None
    seed: int = 0
    place: Place = "gate"
    term: Literal["erc", "orthogonality"] = "erc"

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            choices = get_args(hint)
            if choices and all(isinstance(choice, str) for choice in choices) and getattr(self, name) not in choices:
                raise RecipeError(name, expected=f"one of {', '.join(choices)}", received=repr(getattr(self, name)))
        _check_number("weight", self.weight)
        for alpha in self.alpha.values() if isinstance(self.alpha, Mapping) else [self.alpha]:
            if not callable(alpha):
                _check_number("alpha", alpha)
        if self.gradient == "gate" and self.term == "orthogonality":
            raise RecipeError("gradient", expected="both or router: the term has no gates", received="gate")

    @classmethod
    def of(cls, **options: Any) -> Self:
        """A config from keyword arguments; RecipeError for a name that is none."""
        known = [field.name for field in fields(cls)]
        unknown = next((name for name in options if name not in known), None)
        if unknown is not None:
            raise RecipeError(unknown, expected=f"one of {', '.join(known)}", received="an unknown option")
        if isinstance(options.get("layers"), Collection):
            options["layers"] = tuple(options["layers"])
        return cls(**options)

    @classmethod
    def parse(cls, text: str) -> Self:
        """A config from `alpha=1,weight=10,normalised=true,layers=0+2`.

        Raises:
            RecipeError: an item without "=", an unknown name, a value of the wrong kind.
        """
        options: dict[str, Any] = {}
        for item in filter(None, (part.strip() for part in text.split(","))):
            name, equals, value = (part.strip() for part in item.partition("="))
            if not equals:
                raise RecipeError(item, expected="name=value, separated by commas", received=repr(item))
            options[name] = _READ[name](name, value) if name in _READ else value
        return cls.of(**options)

    def alpha_at(self, layer: int, step: int) -> float:
        """α of decoder layer `layer` at optimiser step `step`; RecipeError if a mapping or schedule has none."""
        if not isinstance(self.alpha, Mapping) and not callable(self.alpha):
            return self.alpha
        alpha = self.alpha(step) if callable(self.alpha) else self.alpha.get(layer)
        if alpha is None:
            raise RecipeError("alpha", expected=f"a number for layer {layer}", received="none")
        _check_number("alpha", alpha)
        return alpha

    def to_dict(self) -> dict[str, object]:
        """JSON values only, as a run records them.

        Raises:
            RecipeError: α is a function, which cannot be written down.
        """
        if callable(self.alpha):
            raise RecipeError("alpha", expected="a number or a mapping, to be recorded", received="a function")
        alpha = {str(k): v for k, v in self.alpha.items()} if isinstance(self.alpha, Mapping) else self.alpha
        found = asdict(self) | {"alpha": alpha, "layers": self.layers and list(self.layers)}
        if self.place == "gate":
            del found["place"]  # as in the runs from before there was a choice
        return found


def _check_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value >= 0):
        raise RecipeError(name, expected="a finite number of at least 0", received=repr(value))


def _number(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise RecipeError(name, expected="a number", received=repr(value)) from None


def _whole(name: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise RecipeError(name, expected="a whole number", received=repr(value)) from None


def _truth(name: str, value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise RecipeError(name, expected="true or false", received=repr(value))
    return value.lower() == "true"


def _layers(name: str, value: str) -> tuple[int, ...]:
    return tuple(_whole(name, number) for number in value.split("+"))


_READ: dict[str, Callable[[str, str], Any]] = {
    "alpha": _number,
    "weight": _number,
    "noise": _truth,
    "normalised": _truth,
    "seed": _whole,
    "layers": _layers,
}
