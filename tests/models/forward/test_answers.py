"""NLL of continuations and bits of texts against forwards of single texts, whatever the batch."""

import math

import pytest
import torch
from tiny import random_model

from turnout.models.forward.answers import answer_nats, text_bits
from turnout.models.wrap.anatomy import read

PROMPTS = [[1, 2, 3, 4, 5, 6, 7], [9, 8], [30, 31, 32, 33]]
ANSWERS = [[40], [41, 42, 43], [44, 45]]


@torch.no_grad()
def nats(model, tokens):
    """−ln p of every token but the first."""
    logprobs = model(input_ids=torch.tensor([tokens])).logits[0].float().log_softmax(-1)
    return [-float(logprobs[at, token]) for at, token in enumerate(tokens[1:])]


@pytest.mark.parametrize("family", ["olmoe", "deepseek_v3"])
def test_answer_nats_equal_single_forwards(family):
    model = random_model(family)
    expected = [
        nats(model, prompt + answer)[len(prompt) - 1 :] for prompt, answer in zip(PROMPTS, ANSWERS, strict=True)
    ]
    for received, row in zip(answer_nats(model, PROMPTS, ANSWERS), expected, strict=True):
        assert received == pytest.approx(row, rel=1e-4)


def test_text_bits_equal_single_forwards():
    moe = read(random_model("olmoe"))
    expected = [sum(nats(moe.model, text)) / math.log(2) for text in PROMPTS]
    assert text_bits(moe, PROMPTS) == pytest.approx(expected, rel=1e-5)
    assert [text_bits(moe, [text])[0] for text in PROMPTS] == pytest.approx(expected, rel=1e-5)
