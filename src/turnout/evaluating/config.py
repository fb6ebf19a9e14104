"""What lm-evaluation-harness is asked to do."""

from dataclasses import asdict, dataclass

from turnout.errors import RecipeError


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """The harness's own settings, under its own names; what is left out is as the harness has it.

    Raises:
        RecipeError: a value that does not fit.
    """

    limit: int | None = None
    """At most so many documents of each task, the first ones."""
    num_fewshot: int | None = None
    """Solved examples before each document; None as each task says."""
    batch_size: int = 1
    """Requests in a forward of the evaluation; figures depend on it by float tolerance only."""
    apply_chat_template: bool = False
    """Ask through the tokenizer's chat template."""

    def __post_init__(self) -> None:
        for name, least in (("limit", 1), ("num_fewshot", 0), ("batch_size", 1)):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if (value is None and name == "batch_size") or (value is not None and (not whole or value < least)):
                raise RecipeError(name, expected=f"a whole number, {least} or more", received=repr(value))

    def describe(self) -> dict[str, object]:
        """As a JSON object."""
        return asdict(self)
