"""Router rows R and gate matrices W_g of a live model's layer, as differentiable views.

R has one row an expert. W_g is the matrix whose product with a token goes through the activation; it is a view of the
fused parameter, never a copy.

Shapes: N routed experts (a router's rows), H hidden size, I expert width.
"""

from torch import Tensor

from turnout.errors import ModelError
from turnout.models.wrap.anatomy import MoELayer


def router_rows(layer: MoELayer) -> Tensor:
    """R [N, H] of `layer`, the router's own parameter.

    Raises:
        ModelError: the router is not a single linear map with one row an expert.
    """
    weight = getattr(layer.router, "weight", None)
    if not isinstance(weight, Tensor) or weight.dim() != 2 or len(weight) != layer.n_experts:
        received = f"{type(layer.router).__name__} without one"
        raise ModelError(layer.name, expected="a router with a weight of one row an expert", received=received)
    return weight


def gate_matrices(layer: MoELayer) -> Tensor:
    """W_g [N, H, I] of `layer`: each expert's gate, or its first matrix where experts have no gate; a view.

    Raises:
        ModelError: the experts have none of transformers' fused layouts.
    """
    return gates_in(layer, gate_parameter(layer))


def gate_parameter(layer: MoELayer) -> Tensor:
    """The fused parameter of `layer` that contains its gate matrices; see `gate_matrices`."""
    name = "gate_up_proj" if has_gate(layer) else "up_proj"
    fused = getattr(layer.experts, name, None)
    if not isinstance(fused, Tensor) or fused.dim() != 3 or len(fused) != layer.n_experts:
        received = f"{type(layer.experts).__name__} without {name}"
        raise ModelError(
            layer.name.rpartition(".")[0], expected="fused experts of transformers' layouts", received=received
        )
    return fused


def gates_in(layer: MoELayer, fused: Tensor) -> Tensor:
    """The gate matrices [N, H, I] in `fused`, a tensor laid out as `gate_parameter`; a view."""
    first_NHO = fused if getattr(layer.experts, "is_transposed", False) else fused.mT
    if not has_gate(layer):
        return first_NHO
    if getattr(layer.experts, "is_concatenated", True):
        return first_NHO[:, :, : first_NHO.shape[2] // 2]
    return first_NHO[:, :, ::2]  # gate and up columns alternate, as in gpt-oss


def rest_in(layer: MoELayer, fused: Tensor) -> Tensor:
    """The part of `fused` that `gates_in` leaves out, a view: the up matrices; empty for experts without a gate."""
    first_NHO = fused if getattr(layer.experts, "is_transposed", False) else fused.mT
    if not has_gate(layer):
        return first_NHO[:, :, :0]
    if getattr(layer.experts, "is_concatenated", True):
        return first_NHO[:, :, first_NHO.shape[2] // 2 :]
    return first_NHO[:, :, 1::2]


def has_gate(layer: MoELayer) -> bool:
    """Whether the experts have a gate matrix beside the up matrix."""
    declared = getattr(layer.experts, "has_gate", None)
    return bool(declared) if declared is not None else hasattr(layer.experts, "gate_up_proj")
