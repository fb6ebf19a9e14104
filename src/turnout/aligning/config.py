"""What an alignment does: which routers, which neighbours, which loss, how long."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from turnout.errors import RecipeError
from turnout.options import given_options

Method = Literal[
    "roma",
    "router-tuning",
    "random-neighbours",
    "no-success-filter",
    "permuted-targets",
    "domain-mean",
    "l1",
    "l2",
    "entropy",
    "c3po",
    "oracle",
]
METHODS: tuple[Method, ...] = get_args(Method)
REROUTING: frozenset[Method] = frozenset({"c3po", "oracle"})
"""Methods that train nothing: they change a question's routing when it is asked."""
DEFAULT_LAYERS = 5


@dataclass(frozen=True, kw_only=True)
class ManifoldConfig:
    """Neighbours and what is asked of them; the published values where there are some."""

    embedder: str = "minilm"
    """"minilm" (all-MiniLM-L6-v2, from a package), "model" (its own mean last hidden state), or any folder or hub id
    that sentence-transformers loads."""
    k: int = 3
    """Neighbours of a question."""
    sigma: float = 0.4
    """Width of the kernel exp(−d²/2σ²) over distances of unit vectors."""
    min_similarity: float | None = None
    """Leave out neighbours of a lower similarity (the ε-ball)."""
    neighbours: Literal["base", "live"] = "base"
    """A neighbour's routing under the base routers, or at each step under the routers as they are (no gradient)."""
    weight: float = 0.8
    """λ."""
    warmup: int = 0
    """Steps over which λ rises from 0."""


@dataclass(frozen=True, kw_only=True)
class ReadingConfig:
    """Which routers are trained, and what is read of a prompt."""

    layers: str | None = None
    """"last-N", "first-N" or "all" MoE layers; None: the last five, or all of fewer."""
    tokens: Literal["last", "last-three", "first"] = "last"
    """Where routing is read; over three tokens it is their mean."""
    target: Literal["letters", "vocabulary"] = "letters"
    """Cross-entropy of the answer's letter among the question's letters, or among all tokens."""
    max_length: int = 1024
    """Longer training prompts are left out and counted."""
    padding: Literal["right", "left"] = "right"
    """Side on which shorter prompts are padded; no figure depends on it."""
    token_budget: int = 4096
    """Most tokens of a forward, padding included; a larger batch is split, its gradients added up."""


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """The optimiser and its steps."""

    learning_rate: float = 7e-5
    weight_decay: float = 0.01
    batch_size: int = 32
    epochs: int = 3
    decay: Literal["constant", "cosine"] = "constant"
    """The learning rate over the steps: as it is, or along a half cosine to 0."""
    max_grad_norm: float | None = 1.0
    """Longer gradients are shortened to this; None: never."""
    seed: int = 0
    """Of the order of the questions and of random neighbours."""
    save_every: int = 50
    """Steps between checkpoints; a kill costs at most so many."""
    cache_gb: float = 16.0
    """Most space for the hidden states that enter the tail; those of other prompts are computed at every use."""
    stored: Literal["float32", "checkpoint"] = "float32"
    """Dtype of the adapter's tensors."""


@dataclass(frozen=True, kw_only=True)
class ReroutingConfig:
    """Options of c3po and oracle, which change a question's routing. Sources: docs/methods/rerouting.md."""

    surrogate: Literal["ngd", "kernel-regression", "mode-finding"] = "ngd"
    """C3PO's three ways to a routing, without the question's own answer."""
    max_similarity: float = 0.95
    """C3PO leaves out neighbours more similar than this: they may be the question itself in other words."""
    core_experts: int = 20
    """C3PO changes this many experts of a layer, those of greatest score for the question; the others keep theirs."""
    alpha: float | None = None
    """Share of its own routing that a question keeps at each step. None: the one of 0, ¼, ½, ¾ and 1 with the least
    loss of the neighbours for kernel regression, ½ for mode finding."""
    routing_sigma: float | None = None
    """Kernel width over distances of routing, for mode finding. None: the median, over the references, of the distance
    to the k-th nearest other one."""
    steps: int | None = None
    """Most steps of gradient descent or mode finding. None: 10 for C3PO, 50 for the oracle."""
    step_size: float = 0.5
    """Length of a step of gradient descent, in logits; with plain steps, the learning rate."""
    step_kind: Literal["unit", "plain"] = "unit"
    """A step along the gradient's direction, of one length; or the gradient times the learning rate."""


@dataclass(frozen=True, kw_only=True)
class AlignConfig:
    """An alignment's whole configuration. `of` takes the fields of all parts by their own names.

    Raises:
        RecipeError: a value that does not fit.
    """

    method: Method = "roma"
    """What is added to the cross-entropy of the answer's letter; or c3po or oracle, which train nothing."""
    manifold: ManifoldConfig = field(default_factory=ManifoldConfig)
    reading: ReadingConfig = field(default_factory=ReadingConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    rerouting: ReroutingConfig = field(default_factory=ReroutingConfig)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "AlignConfig":
        """The configuration with `options` set, None being a default; RecipeError for one that does not exist."""
        owners = {f.name: part for part, kind in _PARTS.items() for f in fields(kind)}
        given = given_options(options, ["method", *owners], "align")
        parts = {p: kind(**{n: v for n, v in given.items() if owners.get(n) == p}) for p, kind in _PARTS.items()}
        return cls(**({"method": given["method"]} if "method" in given else {}), **parts)

    @classmethod
    def stored(cls, described: Mapping[str, Any]) -> "AlignConfig":
        """The configuration that `describe` wrote."""
        parts = {name: kind(**described[name]) for name, kind in _PARTS.items() if name in described}
        return cls(method=described["method"], **parts)

    def describe(self) -> dict[str, Any]:
        """As a JSON object; how to reroute only where that is done."""
        said = asdict(self)
        return said if self.reroutes else {name: part for name, part in said.items() if name != "rerouting"}

    @property
    def reroutes(self) -> bool:
        """Whether nothing is trained and routing is changed when a question is asked."""
        return self.method in REROUTING

    @property
    def weight(self) -> float:
        """λ; 0 for router tuning."""
        return 0.0 if self.method == "router-tuning" else self.manifold.weight

    def chosen_layers(self, n_layers: int) -> range:
        """Positions among the model's `n_layers` MoE layers; RecipeError if more are asked for than there are."""
        asked = self.reading.layers
        if asked is None:
            return range(max(0, n_layers - DEFAULT_LAYERS), n_layers)
        if asked == "all":
            return range(n_layers)
        end, n = asked.split("-")
        if int(n) > n_layers:
            raise RecipeError("layers", expected=f"at most {n_layers}, the model's MoE layers", received=asked)
        return range(n_layers - int(n), n_layers) if end == "last" else range(int(n))

    def __post_init__(self) -> None:
        for part, name, allowed in _CHOICES:
            value = getattr(getattr(self, part) if part else self, name)
            if value not in allowed:
                raise RecipeError(name, expected=" or ".join(allowed), received=value)
        for part, name, least, above in _LEAST:
            value = getattr(getattr(self, part), name)
            if not (value > least if above else value >= least):
                raise RecipeError(name, expected=f"{'above' if above else 'at least'} {least}", received=value)
        ball, norm, layers = self.manifold.min_similarity, self.schedule.max_grad_norm, self.reading.layers
        if ball is not None and not 0 <= ball <= 1:
            raise RecipeError("min_similarity", expected="a similarity from 0 to 1", received=ball)
        if norm is not None and norm <= 0:
            raise RecipeError("max_grad_norm", expected="above 0, or None", received=norm)
        if layers is not None and not re.fullmatch(r"all|(last|first)-[1-9]\d*", layers):
            raise RecipeError("layers", expected="all, last-N or first-N", received=layers)
        if self.reroutes and self.reading.tokens != "last":
            raise RecipeError(
                "tokens", expected=f"last, where {self.method} changes routing", received=self.reading.tokens
            )
        for name in ("max_similarity", "alpha"):
            value = getattr(self.rerouting, name)
            if value is not None and not 0 <= value <= 1:
                raise RecipeError(name, expected="a share from 0 to 1", received=value)
        width, steps = self.rerouting.routing_sigma, self.rerouting.steps
        if width is not None and not width > 0:
            raise RecipeError("routing_sigma", expected="above 0, or None", received=width)
        if steps is not None and steps < 0:
            raise RecipeError("steps", expected="at least 0, or None", received=steps)


_PARTS: dict[str, Any] = {
    "manifold": ManifoldConfig,
    "reading": ReadingConfig,
    "schedule": ScheduleConfig,
    "rerouting": ReroutingConfig,
}
_CHOICES = (
    ("", "method", METHODS),
    ("manifold", "neighbours", ("base", "live")),
    ("reading", "tokens", ("last", "last-three", "first")),
    ("reading", "target", ("letters", "vocabulary")),
    ("reading", "padding", ("right", "left")),
    ("schedule", "decay", ("constant", "cosine")),
    ("schedule", "stored", ("float32", "checkpoint")),
    ("rerouting", "surrogate", ("ngd", "kernel-regression", "mode-finding")),
    ("rerouting", "step_kind", ("unit", "plain")),
)
_LEAST = (
    ("manifold", "k", 1, False),
    ("manifold", "sigma", 0, True),
    ("manifold", "weight", 0, False),
    ("manifold", "warmup", 0, False),
    ("reading", "max_length", 1, False),
    ("reading", "token_budget", 1, False),
    ("schedule", "learning_rate", 0, True),
    ("schedule", "weight_decay", 0, False),
    ("schedule", "batch_size", 1, False),
    ("schedule", "epochs", 1, False),
    ("schedule", "seed", 0, False),
    ("schedule", "save_every", 1, False),
    ("schedule", "cache_gb", 0, False),
    ("rerouting", "core_experts", 1, False),
    ("rerouting", "step_size", 0, True),
)
