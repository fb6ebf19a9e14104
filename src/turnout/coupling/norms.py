"""M of a layer, the norms of every expert's response to every router row, with one gate in memory at a time.

Shapes: N routed experts (rows of a router); H hidden size, I expert width.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from accelerate.utils import align_module_device
from torch import Tensor

from turnout import ops
from turnout.errors import ModelError
from turnout.models.wrap.anatomy import MoE, MoELayer
from turnout.models.wrap.gates import gate_matrices, has_gate, router_rows


class LayerWeights(Protocol):
    """Router and gates of a layer, from a live model or from files."""

    @property
    def layer(self) -> int:
        """The decoder layer's number."""
        ...

    @property
    def gated(self) -> bool:
        """Whether the experts have a gate; without one their first matrix is used instead."""
        ...

    def router(self) -> Tensor:
        """R [N, H]."""
        ...

    def gates(self) -> Iterator[Tensor]:
        """W_g [H, I] of each expert in turn."""
        ...


@dataclass(frozen=True, eq=False)
class LiveLayer:
    """Router and gates of a live model's layer, also where accelerate has offloaded them."""

    moe_layer: MoELayer

    @property
    def layer(self) -> int:
        """The decoder layer's number."""
        return self.moe_layer.layer

    @property
    def gated(self) -> bool:
        """Whether the experts have a gate."""
        return has_gate(self.moe_layer)

    def router(self) -> Tensor:
        """R [N, H]."""
        with align_module_device(self.moe_layer.router):
            return router_rows(self.moe_layer).detach().clone()

    def gates(self) -> Iterator[Tensor]:
        """W_g [H, I] of each expert in turn."""
        with align_module_device(self.moe_layer.experts):
            yield from gate_matrices(self.moe_layer).detach()


def live_layers(moe: MoE) -> list[LiveLayer]:
    """Routers and gates of a live model's layers.

    Raises:
        ModelError: a router without a row for each expert, or experts of an unknown layout.
    """
    layers = [LiveLayer(layer) for layer in moe.layers]
    for layer in moe.layers:
        router_rows(layer)
        gate_matrices(layer)
    return layers


@dataclass(frozen=True, eq=False)
class LayerNorms:
    """M of one layer, and the norms of its rows and gates; float64 on the CPU.

    Attributes:
        layer: the decoder layer's number.
        width: H.
        gated: whether the experts have a gate.
        norms_NN: M of the router rows without noise; row = router row, column = expert.
        router_N: ‖R[i]‖.
        gate_N: ‖W_g^j‖_F.
        bound_N: ε.
    """

    layer: int
    width: int
    gated: bool
    norms_NN: Tensor
    router_N: Tensor
    gate_N: Tensor
    bound_N: Tensor

    @property
    def scale_free(self) -> Tensor:
        """M for rows and matrices of length 1."""
        return ops.scale_free(self.norms_NN, self.router_N, self.gate_N)


def read_norms(weights: LayerWeights, report: Callable[[int], None]) -> LayerNorms:
    """Compute M of one layer; half precision is computed in float32.

    Args:
        weights: the layer's router and gates.
        report: receives 1 for each expert that is done.

    Raises:
        ModelError: NaN or infinity in a router or a gate; the layer and expert are named.
    """
    rows_NH = _wide(weights.router())
    if not bool(rows_NH.isfinite().all()):
        raise ModelError(f"layer {weights.layer}", expected="a finite router", received="NaN or infinity")
    columns, lengths = [], []
    gate_HI = None
    for expert, gate in enumerate(weights.gates()):
        gate_HI = _wide(gate, gate_HI)
        lengths.append(torch.linalg.vector_norm(gate_HI))
        columns.append(ops.gate_norms(rows_NH.to(gate_HI.device), gate_HI).cpu())
        if not bool(lengths[-1].isfinite()):
            where = f"layer {weights.layer}, expert {expert}"
            raise ModelError(where, expected="a finite gate matrix", received="NaN or infinity")
        report(1)
    return LayerNorms(
        layer=weights.layer,
        width=rows_NH.shape[1],
        gated=weights.gated,
        norms_NN=torch.stack(columns, dim=1).double(),
        router_N=torch.linalg.vector_norm(rows_NH.double(), dim=1).cpu(),
        gate_N=torch.stack(lengths).double().cpu(),
        bound_N=ops.noise_bound(rows_NH.double()).cpu(),
    )


def total_experts(layers: Sequence[LayerWeights]) -> int:
    """Number of gates to read."""
    return sum(len(layer.router()) for layer in layers)


def _wide(tensor: Tensor, buffer: Tensor | None = None) -> Tensor:
    """Half precision as float32, in `buffer` if given: new matrices would leave gaps in memory."""
    if tensor.dtype not in (torch.float16, torch.bfloat16):
        return tensor
    return tensor.float() if buffer is None else buffer.copy_(tensor)
