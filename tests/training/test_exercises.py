"""Training on facts and chains: one token a word, a new order for each exposure, separate test chains."""

import polars as pl
import pytest
from transformers import AutoTokenizer

from turnout import TrainRecipe, train
from turnout.tasks.exercises import VOCABULARY, chains, facts
from turnout.training.documents import documents
from turnout.training.recipe import Source
from turnout.training.tokens import exercise_tokenizer


def exercise_recipe(**schedule):
    return {
        "model": {"hidden_size": 32, "layers": 1, "heads": 2, "experts": 4, "top_k": 2, "expert_width": 32},
        "data": {
            "tokenizer": "exercises",
            "sequence_length": 48,
            "evaluation_tokens": 480,
            "sources": [
                {"name": "facts", "facts": 40, "exposures": 20},
                {"name": "chains", "chains": [1, 2], "samples": 300},
            ],
        },
        "schedule": {"tokens": 150 * 8 * 48, "batch_size": 8, "learning_rate": 0.01, **schedule},
    }


def test_each_word_is_one_token_and_is_decoded_again(tmp_path):
    exercise_tokenizer().save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert len(tokenizer) == len(VOCABULARY)
    for exercise in [*facts(20), *chains("train", 20, (1, 3))]:
        ids = tokenizer(exercise.text)["input_ids"]
        assert len(ids) == len(exercise.text.split())
        assert tokenizer.decode(ids) == exercise.text


def test_every_exposure_of_the_facts_has_another_order():
    split = documents(Source(name="f", facts=30, exposures=4), 0.1, seed=1)
    texts = [fact.text for fact in facts(30, 1)]
    orders = [split["train"][at : at + 30] for at in range(0, 120, 30)] + [split["held_out"]]
    assert all(sorted(order) == sorted(texts) for order in orders)
    assert len({tuple(order) for order in orders}) == 5


def test_a_small_model_remembers_a_few_facts(tmp_path):
    result = train(TrainRecipe.parse(exercise_recipe()), tmp_path / "run")
    metrics = pl.read_parquet(tmp_path / "run" / "tables" / "metrics.parquet")
    assert (
        result.losses["facts"] < 2.3
    )  # two fresh words of a name cost ln 40 = 3.7 nats of six tokens, if all is known
    assert metrics.filter(pl.col("metric") == "loss")["value"][-1] < 3
    assert (result.model / "tokenizer.json").exists()


@pytest.mark.parametrize(
    ("origins", "message"),
    [
        ({}, "one of path, worlds, facts and chains"),
        ({"facts": 3, "chains": [1]}, "one of path, worlds, facts and chains"),
        ({"facts": 0}, "facts"),
        ({"chains": []}, "chains"),
    ],
)
def test_a_source_has_one_origin(origins, message):
    with pytest.raises(ValueError, match=message):
        Source(name="x", **origins)
