"""R and W_g of a live model against the matrices that its experts multiply by, as views, in every layout."""

import pytest
import torch
from tiny import FAMILIES, random_model
from torch import nn

from turnout.errors import ModelError
from turnout.models.wrap.anatomy import read
from turnout.models.wrap.gates import gate_matrices, gate_parameter, gates_in, has_gate, rest_in, router_rows

OUTSIDE = {"llama4_text", "jetmoe", "llama", "turnout_aoe"}


class UngatedExperts(nn.Module):
    """Experts with one up and one down matrix, as in Nemotron-H."""

    has_gate, is_transposed = False, False

    def __init__(self, n, width, inner):
        super().__init__()
        self.up_proj = nn.Parameter(torch.randn(n, inner, width))
        self.down_proj = nn.Parameter(torch.randn(n, width, inner))


def layer_like(experts, n):
    """An OLMoE layer with other experts."""
    from dataclasses import replace

    return replace(read(random_model("olmoe")).layers[0], experts=experts, n_experts=n)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f not in OUTSIDE | {"gpt_oss"}])
def test_the_gate_is_the_matrix_before_the_activation(family):
    layer, inputs = read(random_model(family)).layers[-1], []
    gate = gate_matrices(layer)
    assert gate.shape[:2] == router_rows(layer).shape == (layer.n_experts, 32)
    experts, act = layer.experts, layer.experts.act_fn
    experts._modules.pop("act_fn", None)
    experts.act_fn = lambda up: inputs.append(up) or act(up)
    experts.config._experts_implementation = "eager"
    x = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    experts(x, torch.tensor([[1]] * 3), torch.ones(3, 1))
    torch.testing.assert_close(inputs[0], x @ gate[1])


def test_interleaved_gates_are_the_even_columns():
    """gpt-oss computes (up + 1) · glu(gate): zero without gates, not zero without ups."""
    layer = read(random_model("gpt_oss")).layers[0]
    x, one = torch.randn(3, 32, generator=torch.Generator().manual_seed(0)), torch.tensor([[1]] * 3)
    experts = layer.experts
    with torch.no_grad():
        experts.gate_up_proj_bias.zero_()
        experts.down_proj_bias.zero_()
        kept = gate_matrices(layer).clone()
        experts.gate_up_proj.zero_()
        gate_matrices(layer).copy_(kept)
        assert bool((experts(x, one, torch.ones(3, 1)) != 0).all())
        experts.gate_up_proj.normal_()
        gate_matrices(layer).zero_()
        assert bool((experts(x, one, torch.ones(3, 1)) == 0).all())


@pytest.mark.parametrize("family", ["olmoe", "gpt_oss"])
def test_gates_are_views_with_gradients(family):
    layer = read(random_model(family)).layers[0]
    gate = gate_matrices(layer)
    assert gate.untyped_storage().data_ptr() == layer.experts.gate_up_proj.untyped_storage().data_ptr()
    gate.square().sum().backward()
    grad = layer.experts.gate_up_proj.grad
    assert float(grad.abs().sum()) == pytest.approx(float(2 * gate.detach().abs().sum()), rel=1e-5)


@pytest.mark.parametrize("family", ["olmoe", "gpt_oss"])
def test_gates_and_the_rest_are_the_whole_parameter(family):
    layer = read(random_model(family)).layers[0]
    whole = torch.zeros_like(gate_parameter(layer))
    gates_in(layer, whole).add_(1)
    rest_in(layer, whole).add_(1)
    assert bool((whole == 1).all())


def test_experts_without_a_gate_give_their_first_matrix():
    experts = UngatedExperts(4, 6, 5)
    layer = layer_like(experts, 4)
    assert not has_gate(layer)
    torch.testing.assert_close(gate_matrices(layer), experts.up_proj.mT)
    assert rest_in(layer, experts.up_proj).numel() == 0


def test_a_layer_without_rows_or_gates_is_refused():
    layer = read(random_model("olmoe")).layers[0]
    layer.router.weight = nn.Parameter(torch.randn(3, 32))
    with pytest.raises(ModelError, match="expected a router with a weight of one row an expert"):
        router_rows(layer)
    with pytest.raises(ModelError, match="expected fused experts of transformers' layouts"):
        gate_matrices(layer_like(nn.Linear(2, 2), 8))
