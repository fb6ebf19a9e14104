"""Models of a recipe: any family, options, a trained model's folder."""

import pytest
import tiny
import torch

from turnout.errors import RecipeError
from turnout.models.wrap.anatomy import read
from turnout.training.model import build_model, load_model
from turnout.training.recipe import ModelRecipe

SMALL = {"hidden_size": 32, "layers": 2, "heads": 2, "experts": 4, "top_k": 2, "expert_width": 16, "context": 64}


@pytest.mark.parametrize("architecture", ["olmoe", "qwen3_moe", "mixtral"])
def test_builds_any_family(architecture):
    model = build_model(ModelRecipe(architecture=architecture, **SMALL), tiny.tiny_tokenizer(), seed=0)
    layers = read(model).layers
    assert [(layer.n_experts, layer.top_k) for layer in layers] == [(4, 2), (4, 2)]
    assert tuple(layers[0].experts.gate_up_proj.shape) == (4, 32, 32)
    assert model.config.vocab_size == len(tiny.tiny_tokenizer())
    assert model.config.eos_token_id == tiny.tiny_tokenizer().eos_token_id
    assert model.config.max_position_embeddings == 64


def test_the_seed_makes_the_weights():
    recipe = ModelRecipe(**SMALL)
    one, two, other = (build_model(recipe, tiny.tiny_tokenizer(), seed) for seed in (1, 1, 2))
    assert torch.equal(one.lm_head.weight, two.lm_head.weight)
    assert not torch.equal(one.lm_head.weight, other.lm_head.weight)


def test_aux_loss_is_the_weight_of_the_familys_loss():
    on, off = (build_model(ModelRecipe(aux_loss=b, **SMALL), tiny.tiny_tokenizer(), 0).config for b in (0.5, 0.0))
    assert (on.router_aux_loss_coef, on.output_router_logits, off.output_router_logits) == (0.5, True, False)


def test_options_reach_the_config():
    recipe = ModelRecipe(options={"norm_topk_prob": True, "num_key_value_heads": 1}, **SMALL)
    config = build_model(recipe, tiny.tiny_tokenizer(), 0).config
    assert (config.norm_topk_prob, config.num_key_value_heads) == (True, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "perceptron"}, r"model.architecture: expected an architecture of transformers"),
        ({"architecture": "llama"}, r"expected a Mixture-of-Experts architecture, got llama, which has no experts"),
        ({"options": {"num_expert": 3}}, r"model.options: expected keys of OlmoeConfig, got num_expert"),
    ],
)
def test_refuses_other_architectures(change, message):
    with pytest.raises(RecipeError, match=message):
        build_model(ModelRecipe(**{**SMALL, **change}), tiny.tiny_tokenizer(), 0)


def test_refuses_to_start_from_a_folder_without_a_model(tmp_path):
    with pytest.raises(RecipeError, match="no folder"):
        load_model(tmp_path / "none")
    with pytest.raises(RecipeError, match=r"a checkpoint with config\.json"):
        load_model(tmp_path)
