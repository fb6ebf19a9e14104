"""The grid: every combination once, paired seeds, equal budgets; and what it refuses."""

import math

import pytest
import tiny
from sparsity.sweeps import content

from turnout import ops
from turnout.errors import RecipeError
from turnout.sparsity.sweep import SweepRecipe
from turnout.sparsity.sweep.grid import trials
from turnout.sparsity.sweep.recipe import Asked
from turnout.sparsity.sweep.trial import ask
from turnout.tasks.exercises import facts
from turnout.training.model import build_model


def made(**changes):
    return trials(SweepRecipe.parse(content(**changes)))


def test_every_combination_with_every_seed():
    found, left_out = made(grid=[{"experts": [2, 4, 8], "top_k": [2, 4], "learning_rate": [0.01, 0.02]}], seeds=[0, 1])
    shapes = {(t.recipe.model.experts, t.recipe.model.top_k, t.recipe.schedule.learning_rate) for t in found}
    assert shapes == {(e, k, lr) for e in (2, 4, 8) for k in (2, 4) for lr in (0.01, 0.02) if k <= e}
    assert len(found) == 2 * len(shapes)
    assert len(left_out) == 2
    assert "experts 2, top_k 4" in left_out[0]
    assert {t.shape for t in found if t.recipe.seed == 0} == {t.shape for t in found if t.recipe.seed == 1}


def test_counts_are_the_closed_formulas():
    found, _ = made(grid=[{"hidden_size": [16, 32], "experts": [4, 8]}])
    for trial in found:
        model = trial.recipe.model
        expected = ops.parameters(
            width=model.hidden_size,
            layers=1,
            experts=model.experts,
            top_k=2,
            vocab=512,
            expert_width=model.expert_width,
        )
        assert trial.parameters == expected
        assert model.expert_width == 2 * model.hidden_size
        assert trial.tpp == pytest.approx(trial.recipe.schedule.tokens / expected.total)


def test_the_dense_model_has_equal_active_parameters_but_for_the_router():
    (dense, moe), _ = made(grid=[{"experts": [1, 4]}])
    assert dense.recipe.model.expert_width == 2 * 16
    assert moe.parameters.active - dense.parameters.active == 16 * 4
    assert "dense" in dense.name


def test_equal_flops_give_wide_models_fewer_tokens():
    (narrow, wide), _ = made(grid=[{"hidden_size": [16, 64]}], budget={"flops": 3e9})
    assert narrow.recipe.schedule.tokens > wide.recipe.schedule.tokens
    for trial in (narrow, wide):
        step = trial.flops / trial.recipe.steps
        assert 3e9 - step < trial.flops <= 3e9


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"grid": [{"experts": [2], "top_k": [4]}]}, r"grid: expected a point whose top_k is at most its experts"),
        ({"grid": [{"experts": [2, 2]}]}, r"grid: expected each trial once, got .* twice"),
        ({"grid": [{"experts": [2]}, {"experts": [4, 2]}]}, r"each trial once"),
        ({"budget": {"tokens": 100}}, r"budget: expected at least one step of 128 tokens .*got 100 tokens for d16"),
        ({"budget": {"tokens": 100, "flops": 3.0}}, r"either tokens or flops"),
        ({"budget": {}}, r"either tokens or flops"),
        ({"seeds": [1, 1]}, r"seeds must differ"),
        ({"grid": [{"experts": [2], "widht": [3]}]}, r"grid.0.widht: expected no such key"),
        ({"grid": []}, r"grid: expected a list of at least 1"),
        ({"base": {"data": {}}}, r"base.model: expected the architecture"),
        ({"grid": [{"experts": [0]}]}, r"base: model.experts: expected a number above 0"),
    ],
)
def test_refuses_bad_values(changes, said):
    with pytest.raises(RecipeError, match=said):
        made(**changes)


def test_a_dense_model_needs_an_experts_width():
    base = content()["base"]
    del base["model"]["expert_width"]
    with pytest.raises(RecipeError, match=r"base.model.expert_width: expected the width of an expert, .*, got none"):
        made(base=base, grid=[{"experts": [1]}])


def test_a_value_of_several_tokens_is_one_fact(monkeypatch):
    recipe = made(grid=[{"experts": [4]}])[0][0].recipe
    tokenizer = tiny.tiny_tokenizer()  # bytes and pieces of words
    model = build_model(recipe.model, tokenizer, 0)

    def one_bit_a_token(model, prompts, solutions):
        return [[math.log(2)] * len(solution) for solution in solutions]

    monkeypatch.setattr("turnout.reasoning.answers.answer_nats", one_bit_a_token)
    found = ask(model, tokenizer, recipe, Asked(facts=20, chains=0))["facts"]
    values = [fact.answer for fact in facts(20, recipe.data.worlds_seed)]
    lengths = [len(tokenizer(f" {value}", add_special_tokens=False)["input_ids"]) for value in values]
    assert min(lengths) > 1
    kept = sum(max(0.0, math.log2(479) - n) for n in lengths) / 20
    assert found["bits_per_parameter"] == pytest.approx(kept * 50 / sum(p.numel() for p in model.parameters()))
