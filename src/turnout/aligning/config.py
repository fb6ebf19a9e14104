"""Settings of an alignment: method, neighbors, layers and prompts, optimizer, rerouting."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from turnout.errors import RecipeError
from turnout.settings import Settings

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
NeighborRouting = Literal["base", "live"]
Tokens = Literal["last", "last-three", "first"]
Target = Literal["letters", "vocabulary"]
Padding = Literal["left", "right"]
Decay = Literal["constant", "cosine"]
Stored = Literal["float32", "checkpoint"]
Surrogate = Literal["ngd", "kernel-regression", "mode-finding"]
StepKind = Literal["unit", "plain"]

METHODS: tuple[Method, ...] = get_args(Method)
REROUTING: frozenset[Method] = frozenset({"c3po", "oracle"})
"""Methods that train nothing: they change the routing of each evaluation question."""
DEFAULT_LAYERS = 5


class ReadingConfig(Settings):
    """The trained layers, and what is read of a prompt."""

    layers: str | None = None
    """MoE layers whose routers are trained or rerouted: last-N, first-N or all. [default: last-5, or all of fewer]"""
    tokens: Tokens = "last"
    """Tokens at which a prompt's routing is read; over three tokens it is their mean."""
    target: Target = "letters"
    """Cross-entropy of the answer's letter among the question's letters, or among all tokens."""
    max_length: int = Field(default=1024, ge=1)
    """Most tokens of a training prompt; longer ones are left out and counted."""
    padding: Padding = "right"
    """Side on which shorter prompts are padded; no figure depends on it."""
    token_budget: int = Field(default=4096, ge=1)
    """Most tokens of a forward, padding included; a larger batch is split and its gradients are summed."""

    @field_validator("layers")
    @classmethod
    def _layers_parse(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"all|(last|first)-[1-9]\d*", value):
            raise ValueError("all, last-N or first-N")
        return value


class ManifoldConfig(Settings):
    """Neighbors of the training questions and the manifold loss; defaults are the published values where there are."""

    embedder: str = "minilm"
    """Embedding of a question: minilm (all-MiniLM-L6-v2), model (the model's mean last hidden state), or a folder or
    hub id of sentence-transformers."""
    k: int = Field(default=3, ge=1)
    """Neighbors of a question."""
    sigma: float = Field(default=0.4, gt=0)
    """Width σ of the kernel exp(−d²/2σ²) over distances of unit vectors."""
    min_similarity: float | None = Field(default=None, ge=0, le=1)
    """Least similarity exp(−d²/2σ²) of a neighbor (the ε-ball)."""
    neighbours: NeighborRouting = "base"
    """Routing of the neighbors: under the base routers, or under the routers of each step (without gradient)."""
    weight: float = Field(default=0.8, ge=0)
    """Weight λ of the manifold loss or of the regularizer."""
    warmup: int = Field(default=0, ge=0)
    """Steps over which λ rises from 0."""


class ScheduleConfig(Settings):
    """Optimizer, steps, checkpoints."""

    learning_rate: float = Field(default=7e-5, gt=0)
    """Learning rate of AdamW."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Weight decay of AdamW."""
    batch_size: int = Field(default=32, ge=1)
    """Questions of a step."""
    epochs: int = Field(default=3, ge=1)
    """Passes over the training questions."""
    decay: Decay = "constant"
    """Learning rate over the steps: constant, or along a half cosine to 0."""
    max_grad_norm: float | None = Field(default=1.0, gt=0)
    """Norm to which longer gradients are clipped."""
    seed: int = Field(default=0, ge=0)
    """Seed of the order of the questions, of random neighbors and of resamples."""
    save_every: int = Field(default=50, ge=1)
    """Steps between checkpoints; a killed run repeats at most that many."""
    cache_gb: float = Field(default=16.0, ge=0)
    """Most disk space, in GB, of the cache of hidden states; those of further prompts are computed at every use."""
    stored: Stored = "float32"
    """Dtype of the adapter's tensors: float32, or the checkpoint's own."""


class ReroutingConfig(Settings):
    """Settings of c3po and oracle, which change a question's routing. Sources: docs/methods/rerouting.md."""

    surrogate: Surrogate = "ngd"
    """C3PO: surrogate of the question's loss: gradient descent on the neighbors' losses, kernel regression of their
    routing, or mode finding."""
    max_similarity: float = Field(default=0.95, ge=0, le=1)
    """C3PO: greatest similarity of a neighbor; one above it may be the question itself in other words."""
    core_experts: int = Field(default=20, ge=1)
    """C3PO: experts of a layer whose scores change, those of the question's greatest scores."""
    alpha: float | None = Field(default=None, ge=0, le=1)
    """C3PO: share of its own routing that a question keeps at each step. [default: kernel regression: of 0, ¼, ½, ¾ and
    1 the one of least loss of the neighbors; mode finding: ½]"""
    routing_sigma: float | None = Field(default=None, gt=0)
    """C3PO, mode finding: kernel width over distances of routing. [default: the median distance of a reference to its
    k-th nearest other]"""
    steps: int | None = Field(default=None, ge=0)
    """C3PO, oracle: most steps of gradient descent or mode finding. [default: 10, for the oracle 50]"""
    step_size: float = Field(default=0.5, gt=0)
    """C3PO, oracle: length of a step, in logits; with plain steps, the learning rate."""
    step_kind: StepKind = "unit"
    """C3PO, oracle: steps along the gradient's direction of that length (unit), or the gradient times it (plain)."""


class AlignConfig(Settings):
    """All settings of an alignment, in four parts. `of` takes the fields of every part by their own names.

    >>> AlignConfig.of(method="roma", k=5, layers="last-3", epochs=1).manifold.k
    5

    Raises:
        RecipeError: a value that does not fit.
    """

    method: Method = "roma"
    """Penalty added to the cross-entropy of the answer's letter (RoMA or a baseline); c3po and oracle train nothing and
    reroute each evaluation question."""
    manifold: ManifoldConfig = Field(default_factory=ManifoldConfig)
    reading: ReadingConfig = Field(default_factory=ReadingConfig)
    schedule: ScheduleConfig = Field(default_factory=ScheduleConfig)
    rerouting: ReroutingConfig = Field(default_factory=ReroutingConfig)

    @classmethod
    def of(cls, options: Mapping[str, Any] = MappingProxyType({}), /, **named: Any) -> Self:
        """The settings with `options`, the fields of all four parts; None stands for the default.

        Raises:
            RecipeError: an option that does not exist, or a value that does not fit.
        """
        given = {name: value for name, value in {**options, **named}.items() if value is not None}
        method = {"method": given.pop("method")} if "method" in given else {}
        owners = {field: part for part, section in PARTS.items() for field in section.model_fields}
        unknown = sorted(given.keys() - owners.keys())
        if unknown:
            do = "see turnout align --help"
            raise RecipeError(unknown[0], expected="a setting of align", received="an unknown one", do=do)
        parts: dict[str, Any] = {
            part: section(**{name: value for name, value in given.items() if owners[name] == part})
            for part, section in PARTS.items()
        }
        return cls(**method, **parts)

    def describe(self) -> dict[str, Any]:
        """The values as JSON; `rerouting` only for the methods that use it."""
        described = super().describe()
        return described if self.reroutes else {name: part for name, part in described.items() if name != "rerouting"}

    @property
    def reroutes(self) -> bool:
        """Whether nothing is trained and the routing of each evaluation question is changed."""
        return self.method in REROUTING

    @property
    def weight(self) -> float:
        """λ; 0 for router tuning."""
        return 0.0 if self.method == "router-tuning" else self.manifold.weight

    def chosen_layers(self, n_layers: int) -> range:
        """Positions among the model's `n_layers` MoE layers.

        Raises:
            RecipeError: `layers` names more of them than there are.
        """
        layers = self.reading.layers
        if layers is None:
            return range(max(0, n_layers - DEFAULT_LAYERS), n_layers)
        if layers == "all":
            return range(n_layers)
        end, n = layers.split("-")
        if int(n) > n_layers:
            raise RecipeError("layers", expected=f"at most {n_layers}, the model's MoE layers", received=layers)
        return range(n_layers - int(n), n_layers) if end == "last" else range(int(n))

    @model_validator(mode="after")
    def _rerouting_reads_the_last_token(self) -> Self:
        if self.reroutes and self.reading.tokens != "last":
            raise RecipeError("tokens", expected=f"last for the method {self.method}", received=self.reading.tokens)
        return self


PARTS: Mapping[str, type[Settings]] = {
    "manifold": ManifoldConfig,
    "reading": ReadingConfig,
    "schedule": ScheduleConfig,
    "rerouting": ReroutingConfig,
}
"""The parts of `AlignConfig`, by field."""
