"""What an audit measures and how it reads the model."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Literal, get_args

from turnout.errors import RecipeError

Kind = Literal["gate", "frequency", "weight", "released"]
Scope = Literal["last", "all"]
Padding = Literal["left", "right"]

KINDS: tuple[Kind, ...] = get_args(Kind)
_CHOICES: dict[str, tuple[str, ...]] = {"kind": KINDS, "scope": get_args(Scope), "padding": get_args(Padding)}
_CAPTURED = ("answers", "shots", "token_budget", "padding")


@dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """How an audit reads a model and which reading of its routing it measures.

    Raises:
        RecipeError: a value that does not fit.
    """

    kind: Kind = "gate"
    """What counts as an expert's contribution; all four readings are in the tables whatever is chosen."""
    scope: Scope = "last"
    """Where routing is read: at the prompt's last token, or as the mean over all its tokens."""
    presence: float = 0.8
    """Least share of domains whose first K hold a candidate."""
    min_specificity: float | None = None
    """Leave out domains whose mean silhouette over layers is below this; None leaves out none."""
    answers: bool = False
    """Also read the log-probabilities of the answer's letters, for accuracy."""
    shots: int = 0
    """Solved examples of the same subject before each question."""
    seed: int = 0
    """Of the resamples, permutations, rotations and halves behind intervals, nulls and claim."""
    budgets: tuple[int, ...] = ()
    """Other numbers of chosen experts to look at: the same scores cut there, and the model run with them."""
    token_budget: int = 1024
    """Most tokens of a batch, padding included; a longer prompt is a batch alone."""
    padding: Padding = "right"
    """Side on which a batch's shorter prompts are padded."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "budgets", _whole_numbers("budgets", self.budgets))  # a stored one has a list
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise RecipeError(name, expected=" or ".join(allowed), received=getattr(self, name))
        for name in ("shots", "seed", "token_budget"):
            _check(name, _is_whole(getattr(self, name)), "a whole number", repr(getattr(self, name)))
        for name in ("presence", "min_specificity"):
            value = getattr(self, name)
            _check(name, value is None or isinstance(value, int | float), "a number", repr(value))
        _check("answers", isinstance(self.answers, bool), "True or False", repr(self.answers))
        _check("presence", 0 < self.presence <= 1, "a share above 0 and at most 1", self.presence)
        floor = self.min_specificity
        _check("min_specificity", floor is None or -1 <= floor <= 1, "a silhouette, -1 to 1, or None", floor)
        _check("shots", self.shots >= 0, "0 or more", self.shots)
        _check("token_budget", self.token_budget >= 1, "1 or more", self.token_budget)

    @classmethod
    def of(cls, **options: object) -> "AuditConfig":
        """The configuration with `options` set; RecipeError for one that does not exist."""
        return cls().with_options(**options)

    def with_options(self, **options: object) -> "AuditConfig":
        """The same configuration with `options` changed; RecipeError for one that does not exist."""
        known = [field.name for field in fields(self)]
        for name in options:
            _check(name, name in known, f"an option of the audit ({', '.join(known)})", "an unknown one")
        return replace(self, **options)  # type: ignore[arg-type]

    def captured(self) -> dict[str, object]:
        """The options that a stored trace depends on; the others can be chosen anew without the model."""
        return {name: getattr(self, name) for name in _CAPTURED}

    def describe(self) -> dict[str, object]:
        """As a JSON object."""
        return asdict(self)


def _whole_numbers(name: str, given: object) -> tuple[int, ...]:
    numbers = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else (None,)
    _check(name, all(map(_is_whole, numbers)), "whole numbers such as (4, 8)", repr(given))
    return numbers


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check(name: str, holds: bool, expected: str, received: object) -> None:
    if not holds:
        raise RecipeError(name, expected=expected, received=received)
