import pytest
import torch
from torch.nn.functional import linear as plain

from turnout.models.gemm import linear, onednn_linear


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 3), (7, 33), (2, 5, 64), (300, 17)])
def test_same_product_and_gradients(shape, bias):
    torch.manual_seed(0)
    x, w = torch.randn(*shape, requires_grad=True), torch.randn(19, shape[-1], requires_grad=True)
    inputs = (x, w, torch.randn(19, requires_grad=True)) if bias else (x, w)
    mine, theirs = linear(*inputs), plain(*inputs)
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
    grad = torch.randn_like(theirs)
    for a, b in zip(torch.autograd.grad(mine, inputs, grad), torch.autograd.grad(theirs, inputs, grad), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-4)


def test_modules_go_through_it_while_entered():
    layer, x = torch.nn.Linear(8, 4), torch.randn(3, 8)
    theirs = layer(x)
    with onednn_linear():
        mine = layer(x)
    torch.testing.assert_close(mine, theirs)
    assert type(layer(x).grad_fn).__name__ == type(theirs.grad_fn).__name__, "the mode outlived its block"


def test_frozen_weight_gets_no_gradient():
    x, w = torch.randn(3, 8, requires_grad=True), torch.randn(4, 8)
    linear(x, w).sum().backward()
    assert w.grad is None
    torch.testing.assert_close(x.grad, w.sum(0).expand(3, 8))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_are_left_alone(dtype):
    x, w = torch.randn(3, 8, dtype=dtype), torch.randn(4, 8, dtype=dtype)
    assert torch.equal(linear(x, w), plain(x, w))


def test_no_tokens():
    assert linear(torch.empty(0, 8), torch.randn(4, 8)).shape == (0, 4)
