"""What is masked and what it is held against; and what that will cost."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from turnout.errors import RecipeError
from turnout.masking.sets import Which
from turnout.options import given_options


@dataclass(frozen=True, kw_only=True)
class MaskConfig:
    """What is masked, and what it is held against.

    Raises:
        RecipeError: a value that does not fit.
    """

    layers: str | tuple[int, ...] = "all"
    """"all" at once; "each" alone, then all at once; or layer numbers, each alone."""
    which: Which = "committee"
    """The set that the random and matched controls are made for; the other one is masked once, beside it."""
    controls: int = 99
    """Random sets of equal size; a fifth as many matched sets, and as many again of varied sizes for the curve."""
    renormalise: bool = False
    """Score all experts, then zero the masked ones and rescale, instead of scoring what is left."""
    generate: int = 0
    """Tokens that the model may write for an answer; 0: its answers are only read off the letters."""
    limit: int | None = None
    """At most so many questions of each subject."""
    seed: int = 0
    """Of the controls and resamples."""

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "MaskConfig":
        """The configuration with `options` set, None being a default; RecipeError for one that does not exist."""
        given = given_options(options, cls.__dataclass_fields__, "masking")
        if "layers" in given and not isinstance(given["layers"], str):
            given["layers"] = tuple(given["layers"])
        return cls(**given)

    def describe(self) -> dict[str, Any]:
        """As a JSON object."""
        return {**asdict(self), "layers": self.layers if isinstance(self.layers, str) else [*self.layers]}

    def __post_init__(self) -> None:
        if isinstance(self.layers, str) and self.layers not in ("all", "each"):
            raise RecipeError("layers", expected="all, each or layer numbers (3,5)", received=self.layers)
        if self.which not in ("committee", "core"):
            raise RecipeError("set", expected="committee or core", received=self.which)
        for name, least in (("controls", 1), ("generate", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise RecipeError(name, expected=f"{least} or more", received=getattr(self, name))
        if self.limit is not None and self.limit < 1:
            raise RecipeError("limit", expected="1 or more", received=self.limit)


@dataclass(frozen=True)
class MaskPlan:
    """What masking will cost; `seconds` is None where the audit did not say how fast it read."""

    sets: dict[str, int]
    questions: int
    texts: int
    tokens: int
    seconds: float | None

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)

    def __str__(self) -> str:
        time = "" if self.seconds is None else f", about {self.seconds / 60:.1f} minutes at the audit's speed"
        sets = sum(self.sets.values())
        where = f"in {len(self.sets)} places" if len(self.sets) > 1 else f"in layer {next(iter(self.sets))}"
        asked = " and ".join(f"{n:,} {name}" for n, name in ((self.questions, "questions"), (self.texts, "texts")) if n)
        return f"{sets:,} sets {where}, {asked}: {self.tokens:,} tokens{time}"
