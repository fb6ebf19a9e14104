"""Settings of an audit: how the model is read and what is measured."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field

from turnout.settings import Settings, comma_separated

Kind = Literal["gate", "frequency", "weight", "released"]
Scope = Literal["last", "all"]
Padding = Literal["left", "right"]

KINDS: tuple[Kind, ...] = get_args(Kind)
CAPTURED = ("answers", "shots", "token_budget", "padding")
"""Settings that a stored trace depends on; the others can be changed without the model."""


class AuditConfig(Settings):
    """How an audit reads a model and which reading of its routing it measures (arXiv 2601.03425).

    Raises:
        RecipeError: a value that does not fit.
    """

    kind: Kind = "gate"
    """What counts as an expert's contribution; all four readings are in the tables whatever is chosen."""
    scope: Scope = "last"
    """Where routing is read: at the prompt's last token, or as the mean over all its tokens."""
    presence: float = Field(default=0.8, gt=0, le=1)
    """Least share of domains whose first K contain a candidate."""
    min_specificity: float | None = Field(default=None, ge=-1, le=1)
    """Leave out domains whose mean silhouette over layers is below this."""
    answers: bool = False
    """Also read the log-probabilities of the answer letters, for accuracy."""
    shots: int = Field(default=0, ge=0)
    """Solved examples of the same subject before each question."""
    seed: int = Field(default=0, ge=0)
    """Seed of the resamples, permutations, rotations and halves behind intervals, nulls and claim."""
    budgets: Annotated[tuple[int, ...], BeforeValidator(comma_separated)] = Field(
        default=(), examples=["whole numbers such as 4,8,16"], json_schema_extra={"metavar": "K,K,…"}
    )
    """Other numbers of chosen experts: the same scores cut there, and the model run with them."""
    token_budget: int = Field(default=1024, ge=1)
    """Most tokens of a batch, padding included; a longer prompt is a batch alone."""
    padding: Padding = "right"
    """Side on which a batch's shorter prompts are padded."""

    def captured(self) -> dict[str, Any]:
        """The settings that a stored trace depends on."""
        return {name: getattr(self, name) for name in CAPTURED}
