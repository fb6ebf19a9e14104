"""The term counts once for each optimizer step, also with gradient accumulation and checkpointing."""

import pytest
import torch
from coupling.plain import IDS, expected_term, gradients, loss_of
from tiny import random_model

import turnout


def accumulated(model, n, with_items):
    """The gradient of one optimizer step over `n` micro-batches of different numbers of labels."""
    labels = IDS.repeat(n, 1).view(n, *IDS.shape).clone()
    for i in range(n):
        labels[i, :, : 2 * i] = -100
    items = sum((x[:, 1:] != -100).sum() for x in labels)
    for x in labels:
        kwargs = {"num_items_in_batch": items} if with_items else {}
        loss = loss_of(model, x, **kwargs)
        (loss if with_items else loss / n).backward()
    return gradients(model)


@pytest.mark.parametrize("with_items", [True, False], ids=["num_items_in_batch", "loss / n"])
def test_counted_once_under_gradient_accumulation(with_items):
    model = random_model("olmoe").train()
    plain = accumulated(model, 3, with_items)
    expected_term(model).backward()
    term = gradients(model)
    turnout.couple(model, noise=False)
    for name, grad in accumulated(model, 3, with_items).items():
        torch.testing.assert_close(grad, plain[name] + term.get(name, 0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("gradient", ["both", "router"])
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("family", ["olmoe", "gpt_oss"])
def test_gradient_checkpointing_changes_nothing(family, reentrant, gradient):
    model = random_model(family).train()
    coupling = turnout.couple(model, weight=5, gradient=gradient, normalized=True)
    plain = loss_of(model)
    plain.backward()
    expected = gradients(model)
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    for scale in (1.0, 0.25):  # reentrant checkpointing needs the derivative of the loss
        loss = loss_of(model)
        torch.testing.assert_close(loss, plain)
        (scale * loss).backward()
        grads = gradients(model)
        assert grads.keys() == expected.keys()
        for name, grad in grads.items():
            torch.testing.assert_close(grad, scale * expected[name], rtol=1e-4, atol=1e-6)
    assert coupling.added == 3
