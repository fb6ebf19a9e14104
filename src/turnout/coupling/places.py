"""M read elsewhere in an expert than after its gate product: the paper's ablation, for small models.

Unlike `turnout.ops.coupling` this goes through autograd as it is and holds N² · width numbers. Biases are left
out, as they are where M is the gate product's.

Shapes: N routed experts (a router's rows), H hidden size, I expert width.
"""

from typing import Any

import torch
from torch import Tensor

from turnout import ops
from turnout.coupling.config import Place
from turnout.errors import ModelError
from turnout.models.fast.experts import expert_matrices
from turnout.models.wrap.anatomy import MoELayer
from turnout.models.wrap.gates import gate_matrices, gate_parameter, has_gate, rest_in


def place_norms(layer: MoELayer, proxies_NH: Tensor, place: Place, normalised: bool, frozen: bool) -> Tensor:
    """M[i, j] = ‖what expert j makes of proxy i, as far as `place`‖; [N, N], float32 at least.

    Args:
        layer: a layer whose experts have a gate.
        proxies_NH: R̃.
        place: "up", "activated", "gated" or "output".
        normalised: each expert's matrices are scaled to length 1 first.
        frozen: no gradient to the experts.
    """
    with torch.autocast(proxies_NH.device.type, enabled=False):
        reached = _reached(layer, proxies_NH, place, normalised, frozen)
        return torch.stack([torch.linalg.vector_norm(_wide(x), dim=1) for x in reached], dim=1)


def check_place(layer: MoELayer, place: Place) -> None:
    """Refuse experts that have no such place.

    Raises:
        ModelError: experts without a gate, or with a gating of their own where the activation is asked for.
    """
    where = f"layer {layer.layer}"
    if place != "gate" and not has_gate(layer):
        raise ModelError(where, expected=f"experts with a gate, to read M at {place!r}", received="experts without one")
    if place == "activated" and not hasattr(layer.experts, "act_fn"):
        received = f"{type(layer.experts).__name__}, which has none by itself"
        raise ModelError(where, expected="experts with an activation function", received=received)


def _reached(layer: MoELayer, proxies_NH: Tensor, place: Place, normalised: bool, frozen: bool) -> list[Tensor]:
    """[N, width] of each expert."""
    experts: Any = layer.experts
    gate_NHI, up_NHI = gate_matrices(layer), rest_in(layer, gate_parameter(layer))
    down_NIH = torch.stack([matrix_IH for matrix_IH, _ in expert_matrices(experts, "down")])
    gate_NHI, up_NHI, down_NIH = (
        _scaled(m.detach() if frozen else m, normalised) for m in (gate_NHI, up_NHI, down_NIH)
    )
    rows_NH = proxies_NH.to(gate_NHI.dtype)
    if place == "up":
        return list(rows_NH @ up_NHI)
    if place == "activated":
        return list(experts.act_fn(rows_NH @ gate_NHI))
    gated = [
        experts._apply_gate(_joined(experts, rows_NH @ gate_HI, rows_NH @ up_HI))
        for gate_HI, up_HI in zip(gate_NHI, up_NHI, strict=True)
    ]
    return gated if place == "gated" else [x @ down_IH for x, down_IH in zip(gated, down_NIH, strict=True)]


def _joined(experts: Any, gate_NI: Tensor, up_NI: Tensor) -> Tensor:
    """Both products as the experts' own gating takes them, one behind the other or by turns."""
    return torch.cat([gate_NI, up_NI], 1) if experts.is_concatenated else torch.stack([gate_NI, up_NI], 2).flatten(1)


def _scaled(matrices: Tensor, normalised: bool) -> Tensor:
    if not normalised:
        return matrices
    lengths_N = ops.matrix_lengths(matrices).to(matrices.dtype)
    return matrices / lengths_N.clamp_min(torch.finfo(matrices.dtype).tiny)[:, None, None]


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
