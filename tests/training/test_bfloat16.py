"""Fast bfloat16 training on a CPU equals transformers' own computation."""

import pytest
import tiny
import torch
from transformers.loss.loss_utils import ForCausalLMLoss

from turnout.training.bfloat16 import next_token_loss, set_fast_bfloat16


def loss_and_gradients(model, ids):
    model.zero_grad()
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("family", ["olmoe", "mixtral"])
def test_equals_transformers_within_rounding(family):
    model = tiny.random_model(family)
    ids = torch.randint(0, 256, (3, 40), generator=torch.Generator().manual_seed(0))
    model.set_experts_implementation("eager")
    loss, gradients = loss_and_gradients(model, ids)
    set_fast_bfloat16(model)
    fast_loss, fast_gradients = loss_and_gradients(model, ids)
    torch.testing.assert_close(fast_loss, loss)
    for name, gradient in gradients.items():
        torch.testing.assert_close(fast_gradients[name], gradient, msg=name)


def test_experts_of_another_kind_are_not_changed():
    model = tiny.random_model("gpt_oss")
    before = model.config._experts_implementation
    set_fast_bfloat16(model)
    assert model.config._experts_implementation == before


@pytest.mark.parametrize("counted", [None, 77])
def test_the_loss_is_transformers(counted):
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 100, 50, requires_grad=True), torch.randint(0, 50, (3, 100))
    labels[0, :7] = -100
    ours = next_token_loss(logits, labels, 50, counted)
    theirs = ForCausalLMLoss(logits, labels, 50, num_items_in_batch=counted)
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad(2 * loss, logits)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients)
