"""Coupling term of one layer, from its router rows and its experts' matrices.

M[i, j] is the norm of expert j's response to proxy i. It is read after the gate product, through the fused operation of
`turnout.ops`, or elsewhere in the expert: the paper's ablation, for small models, since that path is plain autograd and
keeps N² · width numbers. Biases are left out.

Shapes: N routed experts (a router's rows), H hidden size, I expert width.
"""

import random
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node

from turnout import ops
from turnout.coupling.config import CoupleConfig, Place
from turnout.errors import ModelError
from turnout.models.fast.experts import expert_matrices
from turnout.models.wrap.anatomy import MoELayer
from turnout.models.wrap.gates import gate_matrices, gate_parameter, gates_in, has_gate, rest_in


@dataclass(frozen=True, eq=False)
class Term:
    """Term of one layer at one step.

    Attributes:
        loss: 0-dimensional, float32 at least, before weight and reduction.
        norms_NN: the M of the term, without gradient, columns in the experts' order; None if the term needs no experts.
        bound_N: ε of each row.
        node: node of the graph whose backward computes the term's products; None if there is none.
    """

    loss: Tensor
    norms_NN: Tensor | None
    bound_N: Tensor
    node: Node | None = None


def coupling_term(rows_NH: Tensor, layer: MoELayer, config: CoupleConfig, step: int) -> Term:
    """The term of `layer` at optimizer step `step`; the same weights and step always give the same term.

    Args:
        rows_NH: R, the layer's router rows.
        layer: the layer whose experts are coupled.
        config: the settings.
        step: optimizer steps before this one.
    """
    rows_NH = _wide(rows_NH if config.gradient != "gate" else rows_NH.detach())
    bound_N = ops.noise_bound(rows_NH.detach())
    if config.term == "orthogonality":
        return Term(ops.router_orthogonality(rows_NH), None, bound_N)
    generator = _generator(config.seed, layer.layer, step)
    proxies_NH = ops.proxies(rows_NH, generator) if config.noise else rows_NH
    norms_NN = _norms(rows_NH, proxies_NH, layer, config)
    paired_NN = norms_NN
    if config.pairing == "permuted":
        paired_NN = norms_NN[:, permutation(len(rows_NH), config.seed, layer.layer)]
    return Term(
        ops.erc_loss(paired_NN, config.alpha_at(layer.layer, step)), norms_NN.detach(), bound_N, norms_NN.grad_fn
    )


def _norms(rows_NH: Tensor, proxies_NH: Tensor, layer: MoELayer, config: CoupleConfig) -> Tensor:
    """M [N, N] of the proxies, at the place and of the scale that the config names."""
    frozen = config.gradient == "router"
    if config.normalized:  # at its first product, M is linear in a proxy's length
        lengths_N = torch.linalg.vector_norm(rows_NH, dim=1)
        proxies_NH = proxies_NH / lengths_N.clamp_min(torch.finfo(lengths_N.dtype).tiny)[:, None]
    if config.place != "gate":
        return place_norms(layer, proxies_NH, config.place, config.normalized, frozen)
    fused = gate_parameter(layer).detach() if frozen else gate_parameter(layer)
    views = partial(gates_in, layer), partial(rest_in, layer)
    return ops.fused_activation_norms(proxies_NH, fused, views[0], config.normalized, views[1])


def place_norms(layer: MoELayer, proxies_NH: Tensor, place: Place, normalized: bool, frozen: bool) -> Tensor:
    """M[i, j], the norm of expert j's output for proxy i at `place`; [N, N], float32 at least.

    Args:
        layer: a layer whose experts have a gate.
        proxies_NH: R̃, one proxy for each router row.
        place: "up", "activated", "gated" or "output".
        normalized: scale each expert's matrices to length 1 first.
        frozen: compute no gradient of the experts.
    """
    with torch.autocast(proxies_NH.device.type, enabled=False):
        outputs = _outputs_at(layer, proxies_NH, place, normalized, frozen)
        return torch.stack([torch.linalg.vector_norm(_wide(x), dim=1) for x in outputs], dim=1)


def check_place(layer: MoELayer, place: Place) -> None:
    """Refuse experts without such a place.

    Raises:
        ModelError: experts without a gate, or with a gating of their own where the place is the activation.
    """
    where = f"layer {layer.layer}"
    if place != "gate" and not has_gate(layer):
        raise ModelError(where, expected=f"experts with a gate, to read M at {place!r}", received="experts without one")
    if place == "activated" and not hasattr(layer.experts, "act_fn"):
        received = f"{type(layer.experts).__name__}, which has none of its own"
        raise ModelError(where, expected="experts with an activation function", received=received)


def _outputs_at(layer: MoELayer, proxies_NH: Tensor, place: Place, normalized: bool, frozen: bool) -> list[Tensor]:
    """Each expert's output for all proxies [N, width]."""
    experts: Any = layer.experts
    gate_NHI, up_NHI = gate_matrices(layer), rest_in(layer, gate_parameter(layer))
    down_NIH = torch.stack([matrix_IH for matrix_IH, _ in expert_matrices(experts, "down")])
    gate_NHI, up_NHI, down_NIH = (
        _scaled(m.detach() if frozen else m, normalized) for m in (gate_NHI, up_NHI, down_NIH)
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
    """Both products in the layout of the experts' own gating: concatenated or interleaved."""
    return torch.cat([gate_NI, up_NI], 1) if experts.is_concatenated else torch.stack([gate_NI, up_NI], 2).flatten(1)


def _scaled(matrices: Tensor, normalized: bool) -> Tensor:
    if not normalized:
        return matrices
    lengths_N = ops.matrix_lengths(matrices).to(matrices.dtype)
    return matrices / lengths_N.clamp_min(torch.finfo(matrices.dtype).tiny)[:, None, None]


def _wide(x: Tensor) -> Tensor:
    """Half precision as float32, in which lengths and distances of rows are computed."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def permutation(n: int, seed: int, layer: int) -> list[int]:
    """Expert that each proxy is paired with: for n ≥ 2 never its own; one cycle through all (Sattolo's algorithm)."""
    draw = random.Random(f"pairing {seed} {layer}")  # noqa: S311  not a secret
    order = list(range(n))
    for i in range(n - 1, 0, -1):
        j = draw.randrange(i)
        order[i], order[j] = order[j], order[i]
    return order


def _generator(seed: int, layer: int, step: int) -> torch.Generator:
    """Generator of the noise of one seed, layer and step, on the CPU: no state to save, the same on every device."""
    mixed = random.Random(f"noise {seed} {layer} {step}").getrandbits(63)  # noqa: S311  not a secret
    return torch.Generator().manual_seed(mixed)
