"""The embedded model: size, shape, prompts that fit, no dead expert, and what it has learned."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from turnout.embedded import model_path
from turnout.models.forward.capture import capture
from turnout.models.wrap.anatomy import read
from turnout.tasks import encode, letter_ids, load_tasks, worlds
from turnout.training import TrainRecipe

HERE = Path(model_path()).parent


@pytest.fixture(scope="module")
def moe():
    tokenizer = AutoTokenizer.from_pretrained(model_path())
    return read(AutoModelForCausalLM.from_pretrained(model_path(), dtype=torch.float32), tokenizer)


def test_size():
    assert sum(file.stat().st_size for file in model_path().iterdir()) <= 20_000_000
    assert {file.suffix for file in model_path().iterdir()} == {".json", ".safetensors"}


def test_shape(moe):
    assert 5e6 <= sum(p.numel() for p in moe.model.parameters()) <= 10e6
    assert 4 <= len(moe.layers) <= 8
    assert {(layer.n_experts, layer.top_k, layer.n_shared) for layer in moe.layers} == {(32, 4, 0)}
    assert (moe.model.config.model_type, moe.model.config.max_position_embeddings) == ("olmoe", 2048)


def test_importing_its_path_loads_no_torch():
    code = "import sys, turnout.embedded as e; e.model_path(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_default_questions_fit(moe):
    lengths = [len(encode(moe.tokenizer, q, max_length=2048)) for q in load_tasks("mmlu-dev").questions]
    assert len(lengths) == 281
    assert len(set(letter_ids(moe.tokenizer, 4))) == 4


def test_no_expert_is_dead(moe):
    prompts = [encode(moe.tokenizer, q) for q in load_tasks("mmlu-dev").questions[::4]]
    batches = [capture(moe, prompts[i : i + 35]).layers for i in range(0, len(prompts), 35)]
    counts = [sum(layer.counts_BE.sum(0) for layer in layers) for layers in zip(*batches, strict=True)]
    assert min(int(count.min()) for count in counts) > 0


def test_it_has_learned(moe):
    question = next(iter(worlds.questions("test", 1, 5, ["calendar"])))
    ids = torch.tensor([encode(moe.tokenizer, question)])
    with torch.no_grad():
        out = moe.model(input_ids=ids, labels=ids)
    assert out.loss < 2.0  # log 4096 is 8.3
    letters = letter_ids(moe.tokenizer, 4)
    assert out.logits[0, -1].softmax(-1)[letters].sum() > 0.95


@pytest.mark.parametrize("name", ["recipe", "further", "balanced"])
def test_recipes_load(name):
    recipe = TrainRecipe.load(HERE / f"{name}.yaml")
    assert {source.name for source in recipe.data.sources} == {
        "wordnet", "bible", "plays", "manual", "statements", "questions",
    }  # fmt: skip


def test_trained_on_fifteen_million_tokens():
    recipes = [TrainRecipe.load(HERE / f"{name}.yaml") for name in ("recipe", "further", "balanced")]
    assert sum(r.steps * r.schedule.batch_size * r.data.sequence_length for r in recipes) >= 15_000_000
