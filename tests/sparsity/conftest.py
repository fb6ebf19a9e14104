"""A small model that has seen a few chains, for tests that let it answer."""

import pytest

from turnout.training import TrainRecipe, train


@pytest.fixture(scope="package")
def half_taught(tmp_path_factory):
    """The folder of a MoE that was trained on chains of one operation for a few seconds."""
    recipe = {
        "model": {"hidden_size": 32, "layers": 1, "heads": 2, "experts": 4, "top_k": 2, "expert_width": 32},
        "data": {
            "tokenizer": "exercises",
            "sequence_length": 48,
            "evaluation_tokens": 96,
            "sources": [{"name": "chains", "chains": [1], "samples": 500}],
        },
        "schedule": {"tokens": 60 * 8 * 48, "batch_size": 8, "learning_rate": 0.01},
    }
    return train(TrainRecipe.parse(recipe), tmp_path_factory.mktemp("half-taught") / "run").model
