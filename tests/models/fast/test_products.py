"""Products through oneDNN against PyTorch's own, with gradients, and where each of the two is used."""

import pytest
import torch
from tiny import random_model
from torch import nn

from turnout.models.fast import products
from turnout.models.fast.products import fast_linears, linear, product

pytestmark = pytest.mark.skipif(not products.HAS_ONEDNN, reason="this PyTorch has no oneDNN")


@pytest.fixture
def calls(monkeypatch):
    """Shapes of the rows of products that oneDNN computed."""
    seen = []
    call = products.onednn_linear
    monkeypatch.setattr(
        products, "onednn_linear", lambda rows, *rest: (seen.append(tuple(rows.shape)), call(rows, *rest))[1]
    )
    return seen


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("with_out", [False, True])
@pytest.mark.parametrize("strided", [False, True])
def test_equals_float64(with_bias, with_out, strided, calls):
    rows = torch.randn(130, 150)
    matrix = torch.randn(170, 150).t() if strided else torch.randn(150, 170)
    bias = torch.randn(170) if with_bias else None
    out = torch.full((130, 170), float("nan")) if with_out else None
    exact = rows.double() @ matrix.double() + (0 if bias is None else bias.double())
    result = product(rows, matrix, bias, out=out)
    assert calls
    assert out is None or result is out
    torch.testing.assert_close(result, exact.float(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 3), (7, 33), (2, 5, 64), (300, 17)])
def test_same_product_and_gradients_at_any_size(shape, bias, calls, monkeypatch):
    monkeypatch.setattr(products, "MIN_PRODUCTS", 0)
    x, w = torch.randn(*shape, requires_grad=True), torch.randn(19, shape[-1], requires_grad=True)
    inputs = (x, w, torch.randn(19, requires_grad=True)) if bias else (x, w)
    mine, theirs = linear(*inputs), nn.functional.linear(*inputs)
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
    grad = torch.randn_like(theirs)
    for a, b in zip(torch.autograd.grad(mine, inputs, grad), torch.autograd.grad(theirs, inputs, grad), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-4)
    assert len(calls) == 3


def test_a_frozen_weight_gets_no_gradient(monkeypatch):
    monkeypatch.setattr(products, "MIN_PRODUCTS", 0)
    x, w = torch.randn(3, 8, requires_grad=True), torch.randn(4, 8)
    linear(x, w).sum().backward()
    assert w.grad is None
    torch.testing.assert_close(x.grad, w.sum(0).expand(3, 8))


def test_small_products_other_dtypes_and_autocast_use_pytorch(calls):
    rows, matrix = torch.randn(200, 200), torch.randn(200, 200)
    for x, w in ((rows[:2], matrix), (rows[:0], matrix), (rows.bfloat16(), matrix.bfloat16()), (rows.double(),) * 2):
        assert torch.equal(product(x, w), x @ w)
        assert torch.equal(linear(x, w), nn.functional.linear(x, w))
    with torch.autocast("cpu", torch.bfloat16):
        assert product(rows, matrix).dtype == torch.bfloat16
    assert not calls


def test_linear_layers_are_replaced_and_restored(calls):
    model = random_model("granitemoe", hidden_size=128, intermediate_size=64)
    ids = torch.randint(0, 256, (3, 60))
    with torch.no_grad():
        expected = model(ids).logits
        with fast_linears(model):
            logits = model(ids).logits
    assert calls
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    assert not any("forward" in m.__dict__ for m in model.modules())


def test_a_layer_with_a_replaced_forward_is_unchanged():
    layer = nn.Linear(4, 4)
    mine = layer.forward
    layer.forward = mine
    with fast_linears(nn.Sequential(layer)):
        assert layer.__dict__["forward"] is mine
    assert layer.__dict__["forward"] is mine
