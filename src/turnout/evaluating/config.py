"""Settings of lm-evaluation-harness."""

from pydantic import Field

from turnout.settings import Settings


class EvaluateConfig(Settings):
    """The harness's own settings, under its own names; None is the harness's default.

    Raises:
        RecipeError: a value that does not fit.
    """

    limit: int | None = Field(default=None, ge=1)
    """At most this many documents of each task, the first ones."""
    num_fewshot: int | None = Field(default=None, ge=0)
    """Solved examples before each document. [default: as the task says]"""
    batch_size: int = Field(default=1, ge=1)
    """Requests in a forward of the harness; figures depend on it by float tolerance only."""
    apply_chat_template: bool = False
    """Ask through the tokenizer's chat template."""
