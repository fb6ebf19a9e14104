"""Routers whose output cannot be counted, and the size of a trace."""

import pytest
from tiny import random_model

from turnout.errors import ModelError
from turnout.models.forward.capture import capture
from turnout.models.forward.routing import RoutingError
from turnout.models.wrap.anatomy import read

PROMPTS = [list(range(1, n + 1)) for n in (9, 1, 30, 14, 2)]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_is_named_with_layer_and_sample(value):
    moe = read(random_model("olmoe"))

    def poison(_, args):
        hidden = args[0].clone()
        hidden.view(len(PROMPTS), -1, 32)[3, 5] = value
        return (hidden,)

    moe.layers[1].router.register_forward_pre_hook(poison)
    with pytest.raises(RoutingError, match=r"layer 1, sample 3 of the batch: .* NaN or infinity") as caught:
        capture(moe, PROMPTS)
    assert (caught.value.layer, caught.value.sample) == (1, 3)
    assert isinstance(caught.value, ModelError)
    assert not any(m._forward_hooks for m in moe.model.modules())


def test_nan_in_padding_is_ignored():
    moe = read(random_model("olmoe"))

    def poison(_, args):
        hidden = args[0].clone()
        hidden.view(len(PROMPTS), -1, 32)[1, 1:] = float("nan")
        return (hidden,)

    moe.layers[2].router.register_forward_pre_hook(poison)
    assert capture(moe, PROMPTS).layers[2].counts_BE[1].sum() == 2


def test_a_router_that_is_called_twice():
    moe = read(random_model("olmoe"))
    router = moe.layers[0].router
    again = router.register_forward_hook(lambda module, args, out: (again.remove(), module(*args))[1])
    with pytest.raises(RoutingError, match="layer 0: expected one call of its router in a forward, got a second call"):
        capture(moe, PROMPTS)


def test_a_router_that_is_not_called():
    moe = read(random_model("olmoe"))
    moe.model.config.num_hidden_layers = 2
    with pytest.raises(RoutingError, match="layer 2: expected one call of its router in a forward, got none"):
        capture(moe, PROMPTS)


def test_a_router_that_changes_its_top_k():
    moe = read(random_model("olmoe"))
    moe.layers[1].router.top_k = 3
    with pytest.raises(RoutingError, match=r"layer 1: expected 56 tokens × 2 choices .* got 168 choices, 3 a token"):
        capture(moe, PROMPTS)


def test_an_index_outside_the_experts():
    moe = read(random_model("olmoe"))
    moe.layers[1].router.register_forward_hook(lambda _, __, out: (out[0], out[1], out[2] + 5))
    with pytest.raises(RoutingError, match=r"layer 1: .*indices from 5 to 12 with E = 8"):
        capture(moe, PROMPTS)


def test_a_trace_keeps_only_the_chosen_experts_of_each_token():
    """The size of a trace: sums by sample, and K bytes a token."""
    moe = read(random_model("olmoe"))
    trace = capture(moe, [[1] * 300] * 2).layers[0]
    assert trace.chosen_TK.untyped_storage().nbytes() == 600 * 2
    assert {tuple(t.shape) for t in (trace.scores_BE, trace.sum_scores_BE, trace.sum_weights_BE, trace.counts_BE)} == {
        (2, 8)
    }
