"""Settings of an upcycling: how experts are made from a dense network, and how much text they are fitted to."""

from typing import Literal, Self

from pydantic import Field, model_validator

from turnout.errors import RecipeError
from turnout.settings import Settings

Method = Literal["split", "copy"]
Groups = Literal["coactivation", "weights", "random"]


class UpcycleConfig(Settings):
    """How a MoE is made from a dense checkpoint (MoEfication, arXiv 2110.01786; sparse upcycling, arXiv 2212.05055).

    Raises:
        RecipeError: a value that does not fit.
    """

    method: Method = "split"
    """Distribute each network's neurons among the experts (split), or give every expert the whole network (copy)."""
    experts: int = Field(default=8, ge=2)
    """Experts of a layer."""
    top_k: int = Field(default=2, ge=1)
    """Experts chosen per token."""
    groups: Groups = "coactivation"
    """Split: neurons of one expert: active on the same tokens, with similar gate vectors (weights), or random."""
    noise: float = Field(default=0.0, ge=0)
    """Copy: standard deviation of the noise on each expert's weights, as a share of the matrix's own."""
    tokens: int = Field(default=8192, ge=1)
    """Most tokens of text to which groups and routers are fitted."""
    held_out: int = Field(default=4096, ge=1)
    """Most tokens of other text on which losses are measured."""
    length: int = Field(default=256, ge=2)
    """Tokens of a window of text."""
    seed: int = Field(default=0, ge=0)
    """Seed of the order of the text, the groups, the routers and the noise."""

    @model_validator(mode="after")
    def _settings_fit_together(self) -> Self:
        if self.top_k > self.experts:
            raise RecipeError("top_k", expected=f"at most the {self.experts} experts", received=self.top_k)
        if self.noise and self.method == "split":
            raise RecipeError("noise", expected="0 with a split, whose experts differ", received=self.noise)
        if self.groups != "coactivation" and self.method == "copy":
            expected = "coactivation, the default, with a copy, whose experts are whole networks"
            raise RecipeError("groups", expected=expected, received=self.groups)
        return self
