"""One expert: a dense model with the same attention, trained in the same way."""

import pytest
from training.texts import recipe, write_corpus
from transformers import AutoModelForCausalLM

from turnout import TrainRecipe, train
from turnout.errors import RecipeError


def dense(folder, architecture):
    content = recipe(folder, precision="bfloat16", layer_balancing=0.1)
    content["model"] |= {"architecture": architecture, "experts": 1, "top_k": 1, "expert_width": 48}
    return TrainRecipe.parse(content)


@pytest.mark.parametrize(("architecture", "kind"), [("mixtral", "LlamaForCausalLM"), ("qwen3_moe", "Qwen3ForCausalLM")])
def test_trains_the_dense_counterpart(tmp_path, architecture, kind):
    write_corpus(tmp_path)
    result = train(dense(tmp_path, architecture), tmp_path / "run")
    model = AutoModelForCausalLM.from_pretrained(result.model)
    assert type(model).__name__ == kind
    assert model.model.layers[0].mlp.gate_proj.weight.shape == (48, 32)
    assert result.losses["a"] < 6


def test_has_the_active_parameters_of_the_moe_but_for_its_router(tmp_path):
    from turnout.training.model import build_model
    from turnout.training.tokens import load_tokenizer

    write_corpus(tmp_path)
    one = dense(tmp_path, "mixtral").model
    tokenizer = load_tokenizer(tmp_path / "tokenizer")
    moe = build_model(one.model_copy(update={"experts": 3, "top_k": 3, "expert_width": 16}), tokenizer, 0)
    flat = build_model(one, tokenizer, 0)
    routers = 2 * 3 * 32
    assert sum(p.numel() for p in moe.parameters()) - routers == sum(p.numel() for p in flat.parameters())


def test_refuses_a_family_without_a_dense_counterpart(tmp_path):
    write_corpus(tmp_path)
    with pytest.raises(RecipeError, match="mixtral, qwen3_moe, which have a dense model"):
        train(dense(tmp_path, "olmoe"), tmp_path / "run")
