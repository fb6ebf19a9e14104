"""A forward that skips the layers below against a whole forward."""

from dataclasses import replace

import pytest
from tiny import random_model

from turnout.models.forward.capture import capture
from turnout.models.forward.prefix import Prefix
from turnout.models.wrap.anatomy import read

PROMPTS, LETTERS = [[1, 2, 3, 4], [5, 6]], [[1, 2], [3, 4]]


def refuse(*_):
    raise AssertionError("a layer below was computed")


@pytest.mark.parametrize("family", ["olmoe", "deepseek_v2", "gpt_oss", "qwen2_moe"])
def test_resuming_equals_the_whole_forward(family):
    moe = read(random_model(family))
    number = moe.layers[-1].layer
    prefix = Prefix.before(moe, number)
    assert len(prefix.below) == number
    with prefix.recording():
        whole = capture(moe, PROMPTS, letters=LETTERS)
    handle = prefix.below[0].mlp.register_forward_pre_hook(refuse)
    with prefix.resuming():
        resumed = capture(replace(moe, layers=()), PROMPTS, letters=LETTERS)
    handle.remove()
    assert resumed.choice_logprobs == whole.choice_logprobs
    assert capture(moe, PROMPTS, letters=LETTERS).choice_logprobs == whole.choice_logprobs
