"""What a training run is made of: a YAML file, read into frozen objects; unknown keys are refused.

Paths in a recipe are relative to the directory that the command runs in.
"""

from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from turnout.errors import RecipeError


class Section(BaseModel):
    """A part of a recipe: frozen, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Recipe(Section):
    """A whole recipe, as a YAML file holds it."""

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a recipe from a YAML file.

        Raises:
            RecipeError: no such file, no YAML, or a key (named) that is unknown, missing or of the wrong kind.
        """
        try:
            content = yaml.safe_load(Path(path).read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(
                path, expected="a readable YAML file", received=getattr(error, "strerror", error)
            ) from error
        except yaml.YAMLError as error:
            raise RecipeError(path, expected="YAML", received=error) from error
        if not isinstance(content, dict):
            raise RecipeError(
                path, expected=f"a mapping with {', '.join(cls.model_fields)}", received=type(content).__name__
            )
        return cls.parse(content, where=path)

    @classmethod
    def parse(cls, content: dict[str, Any], where: str | Path = "recipe") -> Self:
        """A recipe from the mapping that its YAML holds; RecipeError, with `where` and the key, if it does not fit."""
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"])) or "the recipe"
            expected, received = _in_words(first["type"], first["msg"], first.get("ctx", {}), first["input"])
            raise RecipeError(f"{where}: {key}", expected=expected, received=received) from error


class ModelRecipe(Section):
    """The architecture, in names that every MoE family of transformers shares; `options` are that family's own keys.

    Args:
        architecture: a transformers `model_type` (olmoe, qwen3_moe, mixtral, …), or our own `turnout_aoe`.
        hidden_size: H, the width of the residual stream.
        layers: decoder layers, each with a MoE block.
        heads: attention heads; key-value heads are as many unless `options` say otherwise.
        experts: E, routed experts a layer; 1: the dense model of the same attention, a block of `expert_width` a layer.
        top_k: K, experts chosen a token.
        expert_width: I, the inner width of one expert.
        context: the most positions that the model takes (`max_position_embeddings`).
        balancing: weight of the family's own load-balancing loss (`router_aux_loss_coef`); 0 turns it off.
        options: further keys of the transformers config.
    """

    architecture: str = "olmoe"
    hidden_size: int = Field(gt=0)
    layers: int = Field(gt=0)
    heads: int = Field(gt=0)
    experts: int = Field(gt=0)
    top_k: int = Field(gt=0)
    expert_width: int = Field(gt=0)
    context: int = Field(default=2048, gt=1)
    balancing: float = Field(default=0.01, ge=0)
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.top_k > self.experts:
            raise ValueError(f"top_k must be at most experts ({self.experts})")
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size must be a multiple of heads ({self.heads})")
        return self


class Source(Section):
    """Where text comes from; exactly one of `path`, `worlds`, `facts` and `chains`.

    Args:
        name: what the metrics call it.
        path: a file, or a folder of .txt and .jsonl files; a .txt file is one document, a .jsonl row is one, under the
            key `text`.
        worlds: "statements" (text that states facts and works problems out) or "questions" (prompts with answers).
        facts: how many facts of `turnout.tasks.exercises`. Held out are the same facts, alone: what is remembered.
        chains: numbers of operations of `turnout.tasks.exercises.generated`, dealt in turn.
        samples: how many statements, questions or chains of the train split to generate.
        exposures: orders that facts are written down in before the first one is read again.
        weight: this source's share of the training tokens, relative to the other sources' weights.
    """

    name: str = Field(min_length=1, pattern=r"^[\w.-]+$")
    path: Path | None = None
    worlds: Literal["statements", "questions"] | None = None
    facts: int | None = Field(default=None, gt=0)
    chains: tuple[int, ...] | None = Field(default=None, min_length=1)
    samples: int = Field(default=10_000, gt=0)
    exposures: int = Field(default=8, gt=0)
    weight: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if sum(origin is not None for origin in (self.path, self.worlds, self.facts, self.chains)) != 1:
            raise ValueError("give one of path, worlds, facts and chains")
        return self


class DataRecipe(Section):
    """The text and how it is cut.

    Args:
        tokenizer: folder of a transformers tokenizer; or "exercises", the 512 words of facts and chains.
        sources: where the text comes from.
        sequence_length: T, tokens of a training sequence.
        held_out: share of each source's documents kept for evaluation, chosen by the documents' digests.
        evaluation_tokens: at most so many held-out tokens of each source are scored during training.
        worlds_seed: of the generated worlds; the run's own seed unless given. Runs that are compared want one text.
        isolated: whether each document of a sequence attends to itself alone, at positions of its own, as in a prompt.
            Short ones, many to a sequence, are learnt sooner so.
    """

    tokenizer: Path
    sources: tuple[Source, ...] = Field(min_length=1)
    sequence_length: int = Field(gt=1)
    held_out: float = Field(default=0.05, gt=0, lt=1)
    evaluation_tokens: int = Field(default=65_536, gt=0)
    worlds_seed: int | None = Field(default=None, ge=0)
    isolated: bool = False

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [source.name for source in self.sources]
        if len(set(names)) < len(names):
            raise ValueError(f"sources need names of their own, got {names}")
        return self


class Schedule(Section):
    """How long, how fast and how often.

    Args:
        tokens: training tokens in all; rounded down to whole steps.
        batch_size: sequences a step.
        learning_rate: its peak.
        warmup: share of the steps until the peak; then a cosine down to a tenth of it.
        weight_decay: of AdamW, on matrices only.
        balancing: weight of our load-balancing loss, which asks every layer by itself (see `balancing.py`).
        precision: "float32", or "bfloat16" for autocast over float32 weights.
        evaluate_every: steps between evaluations; one more comes at the end.
        save_every: steps between checkpoints.
    """

    tokens: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    learning_rate: float = Field(gt=0)
    warmup: float = Field(default=0.02, ge=0, lt=1)
    weight_decay: float = Field(default=0.1, ge=0)
    balancing: float = Field(default=0.0, ge=0)
    precision: Literal["float32", "bfloat16"] = "float32"
    evaluate_every: int = Field(default=500, gt=0)
    save_every: int = Field(default=500, gt=0)


class TrainRecipe(Recipe):
    """A whole training run.

    Args:
        model: the architecture of a fresh model; or
        start: the folder of a trained model to go on from.
        data: the text.
        schedule: how long and how fast.
        seed: of the weights, the order of the text and the generated worlds.
    """

    data: DataRecipe
    schedule: Schedule
    model: ModelRecipe | None = None
    start: Path | None = None
    seed: int = Field(default=0, ge=0)

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
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.schedule.tokens // (self.schedule.batch_size * self.data.sequence_length)


def _in_words(kind: str, message: str, context: dict[str, Any], value: object) -> tuple[str, str]:
    """What pydantic wanted and what came, without pydantic's own phrases."""
    if kind == "missing":
        return "a value", "none"
    if kind == "value_error":  # of a section's own rules, which speak of several keys
        return "keys that fit together", f"some that do not: {context['error']}"
    for prefix, wanted in _WANTED.items():
        if kind.startswith(prefix):
            limits = {name: str(limit).removesuffix(".0") for name, limit in context.items()}
            return wanted.format(**limits), repr(value)
    return message.removeprefix("Input should be "), repr(value)


_WANTED = {
    "extra_forbidden": "no such key",
    "greater_than_equal": "{ge} or more",
    "greater_than": "a number above {gt}",
    "less_than": "a number below {lt}",
    "int_": "a whole number",
    "float_": "a number",
    "finite_number": "a finite number",
    "bool_": "true or false",
    "literal_error": "{expected}",
    "string_pattern_mismatch": "text of the pattern {pattern}",
    "string_": "text",
    "path_": "a path",
    "too_short": "a list of at least {min_length}",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_": "a mapping",
}  # by the beginning of pydantic's name for what is wrong; the first that fits
