"""What a plan is asked: a budget, a goal, and the grid of shapes to look through."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from turnout.errors import RecipeError
from turnout.quantities import parse_bytes, parse_count

Goal = Literal["memorise", "reason", "both"]
Use = Literal["inference", "training"]
_PARSERS = {"active": parse_count, "tokens": parse_count, "context": parse_count, "memory": parse_bytes}


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The shapes that are looked through; the defaults are those of arXiv 2508.18672, and more widths.

    Raises:
        RecipeError: a list without a value, or a value below 1.
    """

    width: tuple[int, ...] = ()
    """Of the hidden state. None given: multiples of 128 to 8192, of which the one nearest to the budget is kept."""
    layers: tuple[int, ...] = (16,)
    """All with experts."""
    experts: tuple[int, ...] = (8, 16, 32, 64, 128, 256)
    """Of a layer."""
    top_k: tuple[int, ...] = (2, 4, 8, 16)
    """Experts that a token chooses."""
    vocab: tuple[int, ...] = (99584,)
    """Rows of each of the two embeddings."""

    def __post_init__(self) -> None:
        for name, values in asdict(self).items():
            if not values and name != "width":
                raise RecipeError(name, expected="at least one value", received="none")
            if min(values, default=1) < 1:
                raise RecipeError(name, expected="1 or more", received=min(values))
        if min(self.top_k) > max(self.experts):
            received = f"{min(self.top_k)} chosen of {max(self.experts)}"
            raise RecipeError("top_k", expected="no more chosen experts than there are", received=received)


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """A budget and a goal.

    Raises:
        RecipeError: a value that does not fit.
    """

    active: int
    """Active parameters, embeddings included."""
    tokens: int
    """Training tokens."""
    goal: Goal = "both"
    memory: int | None = None
    """Bytes that are there; None: no limit."""
    use: Use = "inference"
    """What must fit into the memory: weights and the cache of one sequence, or training's state and activations."""
    tolerance: float = 0.1
    """How far active parameters may be from the budget, as a share of it."""
    context: int = 4096
    """Tokens of a sequence: for attention's FLOPs, the cache, and a micro-batch of one sequence."""
    grid: Grid = field(default_factory=Grid)

    def __post_init__(self) -> None:
        for name, allowed in (("goal", get_args(Goal)), ("use", get_args(Use))):
            if getattr(self, name) not in allowed:
                raise RecipeError(name, expected=" or ".join(allowed), received=getattr(self, name))
        if not 0 < self.tolerance < 1:
            raise RecipeError("tolerance", expected="a share between 0 and 1", received=self.tolerance)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "PlanConfig":
        """The configuration with `options`, None being a default; sizes as numbers or as people write them.

        Raises:
            RecipeError: an unknown option, one that is missing, or a value that does not fit.
        """
        given = {name: value for name, value in options.items() if value is not None}
        shape, own = ({f.name for f in fields(kind)} for kind in (Grid, cls))
        known = (shape | own) - {"grid"}
        for name in sorted(given.keys() - known):
            raise RecipeError(
                name, expected=f"an option of a plan ({', '.join(sorted(known))})", received="an unknown one"
            )
        for name, example in (("active", "1.3B"), ("tokens", "5T")):
            if name not in given:
                raise RecipeError(name, expected=f"a size such as {example}", received="none")
        given |= {name: parse(name, given[name]) for name, parse in _PARSERS.items() if name in given}
        grid = Grid(**{name: _numbers(name, given.pop(name)) for name in shape & given.keys()})
        return cls(**given, grid=grid)

    def describe(self) -> dict[str, Any]:
        """As a JSON object."""
        described = asdict(self)
        described["grid"] = {name: list(values) for name, values in described["grid"].items()}
        return described


def _numbers(name: str, value: object) -> tuple[int, ...]:
    """A list of whole numbers: "8,16", 8, or [8, 16]; each once, ascending."""
    listed = value.split(",") if isinstance(value, str) else value
    parts: Iterable[Any] = listed if isinstance(listed, Iterable) else [listed]
    return tuple(sorted({parse_count(name, part) for part in parts}))
