"""Settings of a masking run, and its cost."""

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from turnout.settings import Settings, comma_separated

Which = Literal["committee", "core"]


def _layers(value: object) -> object:
    """The words all and each as they are; "3,5" and [3, 5] as a tuple of numbers."""
    if value in ("all", "each"):
        return value
    try:
        return tuple(int(number) for number in comma_separated(value))  # type: ignore[attr-defined]
    except (TypeError, ValueError) as error:
        raise ValueError("all, each, or layer numbers such as 3,5") from error


class MaskConfig(Settings):
    """Which experts are masked, and the controls that they are compared with.

    Raises:
        RecipeError: a value that does not fit.
    """

    layers: Annotated[Literal["all", "each"] | tuple[int, ...], BeforeValidator(_layers)] = Field(
        default="all",
        examples=["all, each, or layer numbers such as 3,5"],
        json_schema_extra={"metavar": "all|each|N,N,…"},
    )
    """All layers at once; each alone, then all at once; or numbers, each alone."""
    which: Which = Field(default="committee", json_schema_extra={"option": "--set"})
    """The set that controls are drawn for (core: all candidates); the other one is masked once, beside it."""
    controls: int = Field(default=99, ge=1)
    """Random sets of equal size; a fifth as many matched sets, and as many again of varied sizes for the curve."""
    renormalize: bool = Field(default=False, json_schema_extra={"option": ["--renormalize", "--renormalise"]})
    """Score all experts, then zero the masked ones and rescale, instead of scoring the remaining ones only."""
    generate: int = Field(default=0, ge=0)
    """Also generate up to this many tokens as an answer; 0: answers are read from the letters' logits only."""
    limit: int | None = Field(default=None, ge=1)
    """At most this many questions of each subject."""
    seed: int = Field(default=0, ge=0)
    """Seed of the controls and resamples."""

    def describe(self) -> dict[str, Any]:
        """The values as JSON; the key of `renormalize` in a run is `renormalise`."""
        return {"renormalise" if name == "renormalize" else name: value for name, value in super().describe().items()}


@dataclass(frozen=True)
class MaskPlan:
    """Cost of a masking run; `seconds` is None where the audit did not record its speed."""

    sets: dict[str, int]
    questions: int
    texts: int
    tokens: int
    seconds: float | None

    def to_dict(self) -> dict[str, Any]:
        """The plan as a JSON object."""
        return asdict(self)

    def __str__(self) -> str:
        time = "" if self.seconds is None else f", about {self.seconds / 60:.1f} minutes at the audit's speed"
        sets = sum(self.sets.values())
        where = f"in {len(self.sets)} places" if len(self.sets) > 1 else f"in layer {next(iter(self.sets))}"
        samples = ((self.questions, "questions"), (self.texts, "texts"))
        counted = " and ".join(f"{n:,} {name}" for n, name in samples if n)
        return f"{sets:,} sets {where}, {counted}: {self.tokens:,} tokens{time}"
