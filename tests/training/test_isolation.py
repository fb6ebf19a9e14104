"""Isolated documents in a packed sequence; families that cannot isolate them are refused."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import DENSE, FAMILIES, random_model
from training.test_exercises import exercise_recipe

from turnout import TrainRecipe, train
from turnout.errors import RecipeError
from turnout.training.model import load_model
from turnout.training.sequences import positions, require_isolation, windows
from turnout.training.tokens import Tokens, exercise_tokenizer

MIXED = ("gpt_oss", "lfm2_moe")  # a mask of its own; convolutions


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30))
def test_positions_restart_after_each_end_of_document(ids):
    at, expected = 0, []
    for token in ids:
        expected.append(at)
        at = 0 if token == 0 else at + 1
    assert positions(torch.tensor(ids), end=0).tolist() == expected


@pytest.mark.parametrize("family", sorted({*FAMILIES, *DENSE} - {*MIXED}))
def test_isolated_documents_are_read_as_if_alone(family):
    """Logits of packed documents equal those of each alone, also if the first one is cut."""
    parts = [[1, 1, 5, 6, 7, 0], [8, 9, 0], [3, 4, 5, 6, 7, 0], [9, 8]]
    tokens = Tokens("a", np.array([i for part in parts for i in part]), 1, 1)
    item = windows(tokens, 17, 17, end=0)[0]
    assert item["labels"].tolist() == item["input_ids"].tolist()
    model = random_model(family, initializer_range=0.5)
    require_isolation(model)
    model.config.use_cache = False  # as in transformers' Trainer
    with torch.no_grad():
        together = model(input_ids=item["input_ids"][None], position_ids=item["position_ids"][None]).logits[0]
        alone = torch.cat([model(input_ids=torch.tensor([part])).logits[0] for part in parts])
        packed = model(input_ids=item["input_ids"][None]).logits[0]
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(packed[6:], alone[6:], atol=1e-2)


@pytest.mark.parametrize("family", MIXED)
@pytest.mark.parametrize("scale", [0.02, 0.5])
def test_families_that_mix_documents_are_refused(family, scale):
    model = random_model(family, initializer_range=scale).train()
    with pytest.raises(RecipeError, match=f"keeps documents of one sequence apart, got {family}"):
        require_isolation(model)
    assert model.training


def test_trained_and_scored_alone(tmp_path):
    """The held-out loss of a run equals that of its documents alone, token by token."""
    recipe = exercise_recipe(tokens=20 * 8 * 48)
    recipe["data"] |= {"isolated": True, "evaluation_tokens": 48}
    result = train(TrainRecipe.parse(recipe), tmp_path / "run")
    model, tokenizer = load_model(result.model), exercise_tokenizer()
    (file,) = (tmp_path / "run").rglob("facts-held_out.npy")
    ids = np.load(file)[:48].astype(int).tolist()
    ends = [i + 1 for i, token in enumerate(ids) if token == tokenizer.eos_token_id]
    nats = []
    for first, last in pairwise(sorted({0, *ends, 48})):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids[first:last]])).logits[0]
        targets = torch.tensor(ids[first + 1 : last + 1])  # an end is followed by the next document's first token
        nats += torch.nn.functional.cross_entropy(logits[: len(targets)], targets, reduction="none").tolist()
    assert len(nats) == 47
    assert result.losses["facts"] == pytest.approx(sum(nats) / 47, abs=1e-5)
    plain = train(TrainRecipe.parse(recipe | {"data": recipe["data"] | {"isolated": False}}), tmp_path / "plain")
    assert abs(result.losses["facts"] - plain.losses["facts"]) > 1e-3
    refused = recipe | {"model": recipe["model"] | {"architecture": "gpt_oss"}}
    with pytest.raises(RecipeError, match=r"data\.isolated: expected a model that keeps documents"):
        train(TrainRecipe.parse(refused), tmp_path / "refused")
