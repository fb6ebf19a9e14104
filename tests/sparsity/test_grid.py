"""Grid of a sweep: every combination once, paired seeds, equal budgets, errors; and the scoring of facts."""

import math

import pytest
import tiny
from sparsity.sweeps import content

from turnout import ops
from turnout.errors import RecipeError
from turnout.sparsity.sweep.grid import build_grid
from turnout.sparsity.sweep.recipe import Scoring, SweepRecipe
from turnout.sparsity.sweep.trial import score
from turnout.tasks.exercises import facts
from turnout.training.model import build_model


def grid(**changes):
    return build_grid(SweepRecipe.parse(content(**changes)))


def test_every_combination_with_every_seed():
    built = grid(grid=[{"experts": [2, 4, 8], "top_k": [2, 4], "learning_rate": [0.01, 0.02]}], seeds=[0, 1])
    shapes = {(t.recipe.model.experts, t.recipe.model.top_k, t.recipe.schedule.learning_rate) for t in built.trials}
    assert shapes == {(e, k, lr) for e in (2, 4, 8) for k in (2, 4) for lr in (0.01, 0.02) if k <= e}
    assert len(built.trials) == 2 * len(shapes)
    assert len(built.left_out) == 2
    assert "experts 2, top_k 4" in built.left_out[0]
    by_seed = [{trial.shape for trial in built.trials if trial.recipe.seed == seed} for seed in (0, 1)]
    assert by_seed[0] == by_seed[1]


def test_counts_are_the_closed_formulas():
    for trial in grid(grid=[{"hidden_size": [16, 32], "experts": [4, 8]}]).trials:
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
    dense, moe = grid(grid=[{"experts": [1, 4]}]).trials
    assert dense.recipe.model.expert_width == 2 * 16
    assert moe.parameters.active - dense.parameters.active == 16 * 4
    assert "dense" in dense.name


def test_equal_flops_give_wide_models_fewer_tokens():
    narrow, wide = grid(grid=[{"hidden_size": [16, 64]}], budget={"flops": 3e9}).trials
    assert narrow.recipe.schedule.tokens > wide.recipe.schedule.tokens
    for trial in (narrow, wide):
        step = trial.flops / trial.recipe.steps
        assert 3e9 - step < trial.flops <= 3e9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": [{"experts": [2], "top_k": [4]}]}, r"grid: expected a point whose top_k is at most its experts"),
        ({"grid": [{"experts": [2, 2]}]}, r"grid: expected each trial once, got .* twice"),
        ({"grid": [{"experts": [2]}, {"experts": [4, 2]}]}, r"each trial once"),
        ({"budget": {"tokens": 100}}, r"budget: expected at least one step of 128 tokens .*got 100 tokens for d16"),
        ({"budget": {"tokens": 100, "flops": 3.0}}, r"either tokens or flops"),
        ({"budget": {}}, r"either tokens or flops"),
        ({"seeds": [1, 1]}, r"seeds must differ"),
        ({"grid": [{"experts": [2], "widht": [3]}]}, r"grid.0.widht: expected a known key, got an unknown one"),
        ({"grid": []}, r"grid: expected a list of at least 1"),
        ({"base": {"data": {}}}, r"base.model: expected the architecture"),
        ({"grid": [{"experts": [0]}]}, r"base: model.experts: expected a number above 0"),
    ],
)
def test_refuses_bad_values(changes, message):
    with pytest.raises(RecipeError, match=message):
        grid(**changes)


def test_a_dense_model_needs_an_experts_width():
    base = content()["base"]
    del base["model"]["expert_width"]
    with pytest.raises(RecipeError, match=r"base.model.expert_width: expected the width of an expert, .*, got none"):
        grid(base=base, grid=[{"experts": [1]}])


def test_a_value_of_several_tokens_is_one_fact(monkeypatch):
    recipe = grid(grid=[{"experts": [4]}]).trials[0].recipe
    tokenizer = tiny.tiny_tokenizer()  # bytes and pieces of words
    model = build_model(recipe.model, tokenizer, 0)

    def one_bit_a_token(model, prompts, solutions):
        return [[math.log(2)] * len(solution) for solution in solutions]

    monkeypatch.setattr("turnout.reasoning.answers.answer_nats", one_bit_a_token)
    figures = score(model, tokenizer, recipe, Scoring(facts=20, chains=0))["facts"]
    values = [fact.answer for fact in facts(20, recipe.data.worlds_seed)]
    lengths = [len(tokenizer(f" {value}", add_special_tokens=False)["input_ids"]) for value in values]
    assert min(lengths) > 1
    kept = sum(max(0.0, math.log2(479) - n) for n in lengths) / 20
    assert figures["bits_per_parameter"] == pytest.approx(kept * 50 / sum(p.numel() for p in model.parameters()))
