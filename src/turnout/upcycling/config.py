"""What `upcycle` is asked: how experts are made of a dense network, how many, and fitted on how much text."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from turnout.errors import RecipeError

Method = Literal["split", "copy"]
Groups = Literal["coactivation", "weights", "random"]


@dataclass(frozen=True, kw_only=True)
class UpcycleConfig:
    """An upcycling.

    Args:
        method: "split" deals each network's neurons out to the experts (MoEfication, arXiv 2110.01786); "copy" gives
            every expert the whole network (sparse upcycling, arXiv 2212.05055).
        experts: E.
        top_k: K, experts chosen a token.
        groups: of a split: neurons that are active on the same tokens go together, or neurons with like gate vectors,
            or any at random.
        noise: of a copy: standard deviation of what is added to each expert's weights, as a share of the matrix's own.
        tokens: most tokens of text that groups and routers are fitted to.
        held_out: most tokens of other text on which losses are measured.
        length: tokens of a window of text.
        seed: of the text's order, the groups, the routers and the noise.
    """

    method: Method = "split"
    experts: int = 8
    top_k: int = 2
    groups: Groups = "coactivation"
    noise: float = 0.0
    tokens: int = 8192
    held_out: int = 4096
    length: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        for name, among in (("method", get_args(Method)), ("groups", get_args(Groups))):
            if getattr(self, name) not in among:
                raise RecipeError(name, expected=f"one of {', '.join(among)}", received=getattr(self, name))
        for name, least in (("experts", 2), ("top_k", 1), ("tokens", 1), ("held_out", 1), ("length", 2), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise RecipeError(name, expected=f"a whole number from {least}", received=value)
        if self.top_k > self.experts:
            raise RecipeError(
                "top_k", expected=f"at most the {self.experts} experts that there are", received=self.top_k
            )
        if not 0 <= self.noise < float("inf"):
            raise RecipeError("noise", expected="0 or more", received=self.noise)
        if self.noise and self.method == "split":
            raise RecipeError("noise", expected="none with a split: its experts differ", received=self.noise)
        if self.groups != "coactivation" and self.method == "copy":
            raise RecipeError("groups", expected="none with a copy: every expert is whole", received=self.groups)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "UpcycleConfig":
        """The configuration of `options`, None standing for the default; RecipeError for one that there is not."""
        unknown = sorted(options.keys() - cls.__dataclass_fields__.keys())
        if unknown:
            raise RecipeError(unknown[0], expected=f"one of {', '.join(cls.__dataclass_fields__)}", received="another")
        return cls(**{name: value for name, value in options.items() if value is not None})

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)
