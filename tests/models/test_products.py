import pytest
import torch
from tiny import random_model
from torch import nn

from turnout.models import products
from turnout.models.products import fast_linears, product

pytestmark = pytest.mark.skipif(not products._ONEDNN, reason="this PyTorch has no oneDNN")


@pytest.fixture
def calls(monkeypatch):
    """Shapes of the products that oneDNN did."""
    seen = []
    onednn = products._onednn
    monkeypatch.setattr(products, "_onednn", lambda rows, *rest: (seen.append(rows.shape), onednn(rows, *rest))[1])
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
    with torch.no_grad():
        result = product(rows, matrix, bias, out=out)
    assert calls
    assert out is None or result is out
    torch.testing.assert_close(result, exact.float(), rtol=1e-5, atol=1e-4)


def test_small_products_half_precision_gradients_and_autocast_go_the_usual_way(calls):
    rows, matrix = torch.randn(200, 200), torch.randn(200, 200)
    with torch.no_grad():
        product(rows[:2], matrix)
        product(rows.bfloat16(), matrix.bfloat16())
        with torch.autocast("cpu", torch.bfloat16):
            product(rows, matrix)
    product(rows, matrix.requires_grad_())
    assert not calls


def test_linear_layers_are_swapped_and_restored(calls):
    model = random_model("granitemoe", hidden_size=128, intermediate_size=64)
    ids = torch.randint(0, 256, (3, 60))
    with torch.no_grad():
        expected = model(ids).logits
        with fast_linears(model):
            logits = model(ids).logits
    assert calls
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    assert not any("forward" in m.__dict__ for m in model.modules())


def test_a_layer_whose_forward_is_someone_elses_is_left_alone():
    layer = nn.Linear(4, 4)
    mine = layer.forward
    layer.forward = mine
    with fast_linears(nn.Sequential(layer)):
        assert layer.__dict__["forward"] is mine
    assert layer.__dict__["forward"] is mine
