"""Recipe of a training run: the sections of its YAML file.

Paths in a recipe are relative to the directory that the command runs in.
"""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from turnout.settings import Recipe, Section


class ModelRecipe(Section):
    """The architecture, in names that every MoE family of transformers shares; `options` are that family's own keys."""

    architecture: str = "olmoe"
    """A transformers `model_type` (olmoe, qwen3_moe, mixtral, …), or our own `turnout_aoe`."""
    hidden_size: int = Field(gt=0)
    """H, the width of the residual stream."""
    layers: int = Field(gt=0)
    """Decoder layers, each with a MoE block."""
    heads: int = Field(gt=0)
    """Attention heads; as many key-value heads unless `options` set their number."""
    experts: int = Field(gt=0)
    """E, routed experts of a layer. 1: the dense model of the same attention, with one block of `expert_width`."""
    top_k: int = Field(gt=0)
    """K, experts chosen for a token."""
    expert_width: int = Field(gt=0)
    """I, the inner width of one expert."""
    context: int = Field(default=2048, gt=1)
    """Largest number of positions (`max_position_embeddings`)."""
    aux_loss: float = Field(default=0.01, ge=0, serialization_alias="balancing")
    """Weight of the family's own load-balancing loss (`router_aux_loss_coef`); 0 turns it off."""
    options: dict[str, Any] = {}
    """Further keys of the transformers config."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.top_k > self.experts:
            raise ValueError(f"top_k must be at most experts ({self.experts})")
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size must be a multiple of heads ({self.heads})")
        return self


class Source(Section):
    """A source of text: exactly one of `path`, `worlds`, `facts` and `chains`."""

    name: str = Field(min_length=1, pattern=r"^[\w.-]+$")
    """Name of the source in the metrics."""
    path: Path | None = None
    """A file, or a folder of .txt and .jsonl files; a .txt file is one document, a .jsonl row (key `text`) is one."""
    worlds: Literal["statements", "questions"] | None = None
    """Generated text that states facts and solves problems, or prompts with answers."""
    facts: int | None = Field(default=None, gt=0)
    """Number of facts of `turnout.tasks.exercises`; the same facts, each once, are held out."""
    chains: tuple[int, ...] | None = Field(default=None, min_length=1)
    """Numbers of operations of the chains of `turnout.tasks.exercises`, used in turn."""
    samples: int = Field(default=10_000, gt=0)
    """Statements, questions or chains to generate for training."""
    exposures: int = Field(default=8, gt=0)
    """Random orders in which all facts are written before the first order is read again."""
    weight: float = Field(default=1.0, gt=0)
    """The source's share of the training tokens, relative to the other sources' weights."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if sum(origin is not None for origin in (self.path, self.worlds, self.facts, self.chains)) != 1:
            raise ValueError("give one of path, worlds, facts and chains")
        return self


class DataRecipe(Section):
    """The text, and how it is cut into sequences."""

    tokenizer: Path
    """Folder of a transformers tokenizer; or "exercises", the 512 words of facts and chains."""
    sources: tuple[Source, ...] = Field(min_length=1)
    """Sources of the text."""
    sequence_length: int = Field(gt=1)
    """T, tokens of a training sequence."""
    held_out: float = Field(default=0.05, gt=0, lt=1)
    """Share of each source's documents kept for evaluation, chosen by the documents' digests."""
    evaluation_tokens: int = Field(default=65_536, gt=0)
    """Largest number of held-out tokens of each source that are scored during training."""
    worlds_seed: int | None = Field(default=None, ge=0)
    """Seed of generated text, the run's own seed by default; set it where runs are compared on the same text."""
    isolated: bool = False
    """Whether each document of a sequence attends to itself alone, at positions of its own, as in a prompt."""

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [source.name for source in self.sources]
        if len(set(names)) < len(names):
            raise ValueError(f"sources need names of their own, got {names}")
        return self


class Schedule(Section):
    """Length, learning rate, and intervals of evaluation and checkpoints."""

    tokens: int = Field(gt=0)
    """Training tokens in total; rounded down to whole steps."""
    batch_size: int = Field(gt=0)
    """Sequences of a step."""
    learning_rate: float = Field(gt=0)
    """Peak of the learning rate."""
    warmup: float = Field(default=0.02, ge=0, lt=1)
    """Share of the steps before the peak; after it, a cosine down to a tenth of the peak."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Weight decay of AdamW, on matrices only."""
    layer_balancing: float = Field(default=0.0, ge=0, serialization_alias="balancing")
    """Weight of our load-balancing loss, which balances each layer by itself (`training/balancing.py`)."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the products: "bfloat16" is autocast over float32 weights."""
    evaluate_every: int = Field(default=500, gt=0)
    """Steps between evaluations; one more follows the last step."""
    save_every: int = Field(default=500, gt=0)
    """Steps between checkpoints."""


class TrainRecipe(Recipe):
    """A training run: a new model (`model`) or a trained one (`start`), the text and the schedule."""

    data: DataRecipe
    """The text."""
    schedule: Schedule
    """Length, learning rate, and intervals."""
    model: ModelRecipe | None = None
    """Architecture of a new model."""
    start: Path | None = None
    """Folder of a trained model to continue from, instead of `model`."""
    seed: int = Field(default=0, ge=0)
    """Seed of the weights, the order of the text and the generated text."""

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if (self.model is None) == (self.start is None):
            raise ValueError("give either model or start")
        if self.steps == 0:
            raise ValueError("schedule.tokens is less than one step (batch_size x sequence_length)")
        if self.model is not None and self.data.sequence_length > self.model.context:
            raise ValueError(f"data.sequence_length must be at most model.context ({self.model.context})")
        return self

    @property
    def tokens_per_step(self) -> int:
        """Training tokens of one optimizer step."""
        return self.schedule.batch_size * self.data.sequence_length

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.schedule.tokens // self.tokens_per_step
