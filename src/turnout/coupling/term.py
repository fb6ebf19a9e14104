"""One layer's coupling term from its router rows and gate matrices; and what it says of the layer.

Shapes: N routed experts (a router's rows), H hidden size, I expert width.
"""

import random
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.autograd.graph import Node

from turnout import ops
from turnout.coupling.config import CoupleConfig
from turnout.coupling.places import place_norms
from turnout.models.wrap.anatomy import MoELayer
from turnout.models.wrap.gates import gate_parameter, gates_in, rest_in


@dataclass(frozen=True, eq=False)
class Term:
    """One layer's term at one step.

    Attributes:
        loss: 0-dimensional, float32 at least, before weight and reduction.
        norms_NN: M that it was made of, without gradient, columns in the experts' own order; None without experts.
        bound_N: ε of each row.
        node: of the graph, in whose backward the term's products are; None if there is none.
    """

    loss: Tensor
    norms_NN: Tensor | None
    bound_N: Tensor
    node: Node | None = None


def coupling_term(rows_NH: Tensor, layer: MoELayer, config: CoupleConfig, step: int) -> Term:
    """The term of `layer` at optimiser step `step`: the same for the same weights, however often it is asked for.

    Args:
        rows_NH: R, the layer's router rows.
        layer: whose experts are coupled.
        config: what was asked for.
        step: optimiser steps before this one.
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
    """M [N, N] of the proxies, where and as the config reads it."""
    frozen = config.gradient == "router"
    if config.normalised:  # M is linear in a proxy's length at its first product
        lengths_N = torch.linalg.vector_norm(rows_NH, dim=1)
        proxies_NH = proxies_NH / lengths_N.clamp_min(torch.finfo(lengths_N.dtype).tiny)[:, None]
    if config.place != "gate":
        return place_norms(layer, proxies_NH, config.place, config.normalised, frozen)
    fused = gate_parameter(layer).detach() if frozen else gate_parameter(layer)
    views = partial(gates_in, layer), partial(rest_in, layer)
    return ops.fused_activation_norms(proxies_NH, fused, views[0], config.normalised, views[1])


def _wide(x: Tensor) -> Tensor:
    """Half precision as float32: lengths and distances of rows are taken there."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def permutation(n: int, seed: int, layer: int) -> list[int]:
    """Which expert each proxy is paired with: never its own, for n ≥ 2; one cycle through all (Sattolo's algorithm)."""
    draw = random.Random(f"pairing {seed} {layer}")  # noqa: S311  no secret
    order = list(range(n))
    for i in range(n - 1, 0, -1):
        j = draw.randrange(i)
        order[i], order[j] = order[j], order[i]
    return order


def _generator(seed: int, layer: int, step: int) -> torch.Generator:
    """Noise of its own for each seed, layer and step, on the CPU: no state to save, the same on every device."""
    mixed = random.Random(f"noise {seed} {layer} {step}").getrandbits(63)  # noqa: S311  no secret
    return torch.Generator().manual_seed(mixed)
