"""One layer's coupling term from its router rows and gate matrices; and what it says of the layer.

Shapes: N routed experts (a router's rows), H hidden size, I expert width.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from turnout import ops
from turnout.coupling.config import CoupleConfig

Stage = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Term:
    """One layer's term at one step.

    Attributes:
        loss: 0-dimensional, float32 at least, before weight and reduction.
        norms_NN: M that it was made of, without gradient, columns in the experts' own order; None without experts.
        bound_N: ε of each row.
    """

    loss: Tensor
    norms_NN: Tensor | None
    bound_N: Tensor


def coupling_term(rows_NH: Tensor, gate_NHI: Tensor, config: CoupleConfig, layer: int, step: int) -> Term:
    """The term of decoder layer `layer` at optimiser step `step`: the same for the same arguments, however often."""
    rows_NH = ops_dtype(rows_NH if config.gradient != "gate" else rows_NH.detach())
    bound_N = ops.noise_bound(rows_NH.detach())
    if config.term == "orthogonality":
        return Term(ops.router_orthogonality(rows_NH), None, bound_N)
    gate_NHI = gate_NHI if config.gradient != "router" else gate_NHI.detach()
    proxies_NH = ops.proxies(rows_NH, _generator(config.seed, layer, step)) if config.noise else rows_NH
    norms_NN = ops.activation_norms(proxies_NH, gate_NHI)
    if config.normalised:
        lengths_N = torch.linalg.vector_norm(rows_NH, dim=1)
        norms_NN = ops.scale_free(norms_NN, lengths_N.to(norms_NN.dtype), ops.matrix_lengths(gate_NHI))
    paired_NN = norms_NN
    if config.pairing == "permuted":
        paired_NN = norms_NN[:, permutation(len(rows_NH), config.seed, layer)]
    return Term(ops.erc_loss(paired_NN, config.alpha_at(layer, step)), norms_NN.detach(), bound_N)


def ops_dtype(x: Tensor) -> Tensor:
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
