"""Model of a training recipe: a new one of any MoE family of transformers or our own, or a trained one."""

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from turnout.errors import ModelError, RecipeError
from turnout.listener import Listener
from turnout.models.wrap.families import register_own
from turnout.models.wrap.load import load_checkpoint
from turnout.training.recipe import ModelRecipe, TrainRecipe

DENSE = {"mixtral": "llama", "qwen3_moe": "qwen3"}
"""MoE architecture → the dense one with the same attention and norms."""


def starting_model(recipe: TrainRecipe, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """The float32 model that a training run starts from: the recipe's `start`, or a new model.

    Raises:
        RecipeError: as `load_model` and `build_config`.
    """
    if recipe.start is not None:
        return load_model(recipe.start)
    assert recipe.model is not None
    return build_model(recipe.model, tokenizer, recipe.seed)


def build_config(recipe: ModelRecipe, tokenizer: PreTrainedTokenizerBase) -> PreTrainedConfig:
    """The transformers config of a recipe's model, with the tokenizer's vocabulary and special tokens.

    Raises:
        RecipeError: transformers has no such architecture, it is no MoE, or it has no such key as one of `options`.
    """
    register_own(recipe.architecture)
    architecture = recipe.architecture if recipe.experts > 1 else _dense(recipe.architecture)
    try:
        known = AutoConfig.for_model(architecture)
    except ValueError as error:
        do = "give a model_type such as olmoe, qwen3_moe or mixtral"
        expected = "an architecture of transformers"
        raise RecipeError("model.architecture", expected=expected, received=recipe.architecture, do=do) from error
    unknown = [key for key in recipe.options if not hasattr(known, key)]
    if unknown:
        expected = f"keys of {type(known).__name__}"
        raise RecipeError("model.options", expected=expected, received=", ".join(unknown))
    try:
        return AutoConfig.for_model(architecture, **(_common(recipe, known, tokenizer) | recipe.options))
    except (ValueError, TypeError) as error:
        raise RecipeError("model", expected=f"values that {type(known).__name__} takes", received=error) from error


def load_model(folder: Path) -> PreTrainedModel:
    """The trained model of `folder` in float32.

    Raises:
        RecipeError: no folder, or no causal language model in safetensors there.
    """
    where = f"start: {folder}"
    if not folder.is_dir():
        raise RecipeError(where, expected="the folder of a model", received="no folder")
    try:
        loaded = load_checkpoint(folder, torch.float32, "cpu")
    except ModelError as error:
        raise RecipeError(where, expected=error.expected, received=error.received, do=error.do) from error
    for note in loaded.notes:
        Listener().note(f"{where}: {note}")
    return loaded.model


def build_model(recipe: ModelRecipe, tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    """A newly initialized float32 causal language model; the same seed gives the same weights."""
    config = build_config(recipe, tokenizer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def _common(recipe: ModelRecipe, known: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> dict[str, object]:
    """The recipe's values under the family's names; families count experts under different keys."""
    common: dict[str, object] = {
        "vocab_size": len(tokenizer),
        "hidden_size": recipe.hidden_size,
        "num_hidden_layers": recipe.layers,
        "num_attention_heads": recipe.heads,
        "num_key_value_heads": recipe.heads,
        "max_position_embeddings": recipe.context,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    } | (_experts(recipe, known) if recipe.experts > 1 else {"intermediate_size": recipe.expert_width})
    if getattr(known, "head_dim", None):
        common["head_dim"] = recipe.hidden_size // recipe.heads
    return common


def _experts(recipe: ModelRecipe, known: PreTrainedConfig) -> dict[str, object]:
    names = ("num_experts", "num_local_experts", "n_routed_experts")
    experts = next((name for name in names if hasattr(known, name)), None)
    if experts is None or not hasattr(known, "num_experts_per_tok"):
        expected = "a Mixture-of-Experts architecture"
        raise RecipeError(
            "model.architecture", expected=expected, received=f"{recipe.architecture}, which has no experts"
        )
    width = "moe_intermediate_size" if hasattr(known, "moe_intermediate_size") else "intermediate_size"
    return {
        experts: recipe.experts,
        "num_experts_per_tok": recipe.top_k,
        width: recipe.expert_width,
        "router_aux_loss_coef": recipe.aux_loss,
        "output_router_logits": recipe.aux_loss > 0,
    }


def _dense(architecture: str) -> str:
    """The dense architecture with the same attention and norms."""
    if architecture not in DENSE:
        expected = f"two experts or more, or one of {', '.join(DENSE)}, which have a dense model of the same attention"
        raise RecipeError("model.experts", expected=expected, received=f"1 of {architecture}")
    return DENSE[architecture]
