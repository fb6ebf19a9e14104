"""M of one layer, one expert's gate in memory at a time.

Shapes: N routed experts, rows of a router; H hidden size, I expert width.
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
    """A layer's router and gates, from a live model or from files."""

    @property
    def layer(self) -> int:
        """The decoder layer's number."""
        ...

    @property
    def gated(self) -> bool:
        """Whether the experts have a gate; without one their first matrix stands for it."""
        ...

    def router(self) -> Tensor:
        """R [N, H]."""
        ...

    def gates(self) -> Iterator[Tensor]:
        """W_g [H, I] of each expert in turn."""
        ...


@dataclass(frozen=True, eq=False)
class LiveLayer:
    """A layer of a live model as `LayerWeights`; weights offloaded by accelerate are read too."""

    of: MoELayer

    @property
    def layer(self) -> int:
        """The decoder layer's number."""
        return self.of.layer

    @property
    def gated(self) -> bool:
        """Whether the experts have a gate."""
        return has_gate(self.of)

    def router(self) -> Tensor:
        """R [N, H]."""
        with align_module_device(self.of.router):
            return router_rows(self.of).detach().clone()

    def gates(self) -> Iterator[Tensor]:
        """W_g [H, I] of each expert in turn."""
        with align_module_device(self.of.experts):
            yield from gate_matrices(self.of).detach()


def live_layers(moe: MoE) -> list[LiveLayer]:
    """The layers of a live model, whose routers must be linear.

    Raises:
        ModelError: a router without a row an expert, or experts of an unknown layout.
    """
    layers = [LiveLayer(layer) for layer in moe.layers]
    for layer in moe.layers:
        router_rows(layer)
        gate_matrices(layer)
    return layers


@dataclass(frozen=True, eq=False)
class LayerNorms:
    """One layer's M and what it is made of, CPU float64.

    Attributes:
        layer: the decoder layer's number.
        width: H.
        gated: whether the experts have a gate.
        norms_NN: M on the clean router, row = router row, column = expert.
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


def read_norms(weights: LayerWeights, read: Callable[[int], None]) -> LayerNorms:
    """M of one layer, products in float32 whatever the checkpoint's dtype; `read` hears of each expert.

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
        read(1)
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
    """How many gates there are to read."""
    return sum(len(layer.router()) for layer in layers)


def _wide(tensor: Tensor, buffer: Tensor | None = None) -> Tensor:
    """Half precision as float32, in `buffer` if there is one: matrices made anew leave holes between small results."""
    if tensor.dtype not in (torch.float16, torch.bfloat16):
        return tensor
    return tensor.float() if buffer is None else buffer.copy_(tensor)
