"""Greedy and sampled continuations: against single forwards, by seed, and independent of the checkpoint's settings."""

import pytest
import torch
from tiny import random_model, tiny_tokenizer

from turnout.models.forward.generate import continue_greedily, end_tokens, sample
from turnout.models.wrap.anatomy import read

PROMPTS = [[1, 2, 3, 4, 5, 6, 7], [9, 8], [30, 31, 32, 33]]


@pytest.fixture
def model():
    return random_model("olmoe")


@torch.no_grad()
def greedy(model, prompt, n, end):
    """The most probable next token, one forward at a time, up to `end`."""
    tokens = list(prompt)
    for _ in range(n):
        token = int(model(input_ids=torch.tensor([tokens])).logits[0, -1].argmax())
        if token == end:
            break
        tokens.append(token)
    return tokens[len(prompt) :]


def test_greedy_continuations_equal_single_forwards(model):
    plain = [greedy(model, prompt, 6, model.config.eos_token_id) for prompt in PROMPTS]
    assert continue_greedily(model, PROMPTS, 6) == continue_greedily(read(model), PROMPTS, 6) == plain


def test_a_continuation_stops_before_the_token_that_ends_it(model):
    third = continue_greedily(model, PROMPTS, 3)[0][2]
    model.generation_config.eos_token_id = [third, 258]
    (first, *_) = continue_greedily(model, PROMPTS, 6)
    assert third not in first
    assert len(first) <= 2


def test_the_same_seed_gives_the_same_samples(model):
    state = torch.get_rng_state()
    draws = [sample(model, PROMPTS, 4, temperature=1.0, max_new_tokens=5, seed=seed) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert [len(samples) for samples in draws[0]] == [4, 4, 4]
    assert torch.equal(torch.get_rng_state(), state)


def test_a_low_temperature_samples_the_greedy_continuation(model):
    samples = sample(model, PROMPTS, 2, temperature=1e-6, max_new_tokens=5, seed=0)
    assert samples == [[tokens] * 2 for tokens in continue_greedily(model, PROMPTS, 5)]


def test_a_checkpoints_generation_settings_are_not_used(model):
    def both():
        return continue_greedily(model, PROMPTS, 8), sample(
            model, PROMPTS, 4, temperature=1.0, max_new_tokens=8, seed=0
        )

    plain = both()
    model.generation_config.repetition_penalty, model.generation_config.min_p = 1.8, 0.5
    assert both() == plain
    assert model.generation_config.repetition_penalty == 1.8


def test_a_text_ends_at_every_token_that_the_tokenizer_or_the_generation_config_names():
    model, tokenizer = random_model("olmoe"), tiny_tokenizer()
    model.generation_config.eos_token_id = [7, 8]
    assert end_tokens(model) == [7, 8]
    assert end_tokens(model, tokenizer) == [7, 8, tokenizer.eos_token_id]
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    assert end_tokens(model, tokenizer) == [tokenizer.eos_token_id]
