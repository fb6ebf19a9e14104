"""One layer of an upcycling: groups and routers fitted to the dense network's inputs, and stored on disk.

Shapes: T tokens (fitted ones first, then the held-out), E experts, K chosen, H hidden size, I neurons, W of an expert.
"""

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from turnout.models.change.dense import Dense, Network, fill
from turnout.models.wrap.anatomy import MoELayer
from turnout.upcycling import grouping, routers
from turnout.upcycling.config import UpcycleConfig

CONTROL = "random split"


@dataclass(frozen=True)
class Figures:
    """Figures of a fitted layer on held-out text; None where one is undefined.

    Attributes:
        error_before: output error of the split with its initial, random router.
        error: after fitting.
        error_ideal: with the K largest outputs chosen at equal weights: what a better router could reach.
        error_control: output error of a random split with a router fitted in the same way.
        load_before: share of tokens that choose the busiest expert, before fitting; K/E if all are chosen equally.
        load: after fitting.
        idle: experts that no token chooses after fitting.
    """

    error_before: float | None
    error: float | None
    error_ideal: float | None
    error_control: float | None
    load_before: float
    load: float
    idle: int

    def to_dict(self) -> dict[str, float | None]:
        """As JSON."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class FittedLayer:
    """Routers [E, H] and groups [E, W] of a layer; a copy has no groups and no control."""

    before: Tensor
    router: Tensor
    groups: Tensor | None
    control: Tensor | None
    control_groups: Tensor | None
    figures: Figures

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Arrays for a file; an undefined figure is NaN."""
        figures = [np.nan if v is None else float(v) for v in self.figures.to_dict().values()]
        tensors = {name: getattr(self, name) for name in _TENSORS}
        present = {name: tensor.cpu().numpy() for name, tensor in tensors.items() if tensor is not None}
        return {**present, "figures": np.array(figures)}

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray[Any, Any]]) -> "FittedLayer":
        """The layer that `arrays()` describes."""
        values = [None if np.isnan(v) else float(v) for v in arrays["figures"]]
        named = dict(zip((f.name for f in fields(Figures)), values, strict=True))
        figures = Figures(**{**named, "idle": int(named["idle"] or 0)})  # type: ignore[arg-type]  # loads are never NaN
        tensors = {name: torch.from_numpy(arrays[name].copy()) if name in arrays else None for name in _TENSORS}
        return cls(**tensors, figures=figures)  # type: ignore[arg-type]  # routers are never absent


_TENSORS = ("before", "router", "groups", "control", "control_groups")


def fit_layer(dense: Dense, number: int, x_TH: Tensor, n_fitted: int, config: UpcycleConfig) -> FittedLayer:
    """Fit layer `number` on the first `n_fitted` tokens of `x_TH`; its figures are measured on the others."""
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + number)
    std = float(getattr(dense.model.config, "initializer_range", 0.02))
    before = routers.initial_router(config.experts, x_TH.shape[1], std, generator).to(x_TH)
    with torch.enable_grad():
        if config.method == "copy":
            return _copy(x_TH, n_fitted, config, before, generator)
        return _split(dense.networks[number], x_TH, n_fitted, config, before, generator)


def _copy(x_TH: Tensor, n: int, config: UpcycleConfig, before: Tensor, generator: torch.Generator) -> FittedLayer:
    router = routers.fit_copy_router(before, x_TH[:n], config.top_k, generator)
    figures = Figures(None, None, None, None, *_loads(before, router, x_TH[n:], config))
    return FittedLayer(before, router, None, None, None, figures)


def _split(
    network: Network, x_TH: Tensor, n: int, config: UpcycleConfig, before: Tensor, generator: torch.Generator
) -> FittedLayer:
    """Fit groups and a router. With all experts chosen (K = E), a router of zeros gives the dense network exactly."""
    neurons_TI, down_HI = network.neurons(x_TH), network.down_HI.float()
    groups = _groups(network, neurons_TI[:n], config, generator)
    control_groups = grouping.random_groups(neurons_TI.shape[1], config.experts, generator).to(x_TH.device)
    if config.top_k == config.experts:
        zeros = torch.zeros_like(before)
        return FittedLayer(zeros, zeros, groups, zeros, control_groups, Figures(0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0))
    fitted, held_out, k = x_TH[:n], x_TH[n:], config.top_k
    variants = []
    for each in (groups, control_groups):
        gram_TEE = routers.inner_products(neurons_TI, down_HI, each)
        router = routers.fit_split_router(fitted, gram_TEE[:n], k)
        variants.append(
            (router, gram_TEE[n:], routers.output_error(gram_TEE[n:], *routers.choose(router, held_out, k)))
        )
    (router, gram_TEE, error), (control, _, error_control) = variants
    index_TK = gram_TEE.diagonal(dim1=1, dim2=2).topk(k, dim=1).indices
    ideal = routers.output_error(gram_TEE, index_TK, torch.full_like(index_TK, 1 / k, dtype=gram_TEE.dtype))
    error_before = routers.output_error(gram_TEE, *routers.choose(before, held_out, k))
    figures = Figures(error_before, error, ideal, error_control, *_loads(before, router, held_out, config))
    return FittedLayer(before, router, groups, control, control_groups, figures)


def _groups(network: Network, neurons_TI: Tensor, config: UpcycleConfig, generator: torch.Generator) -> Tensor:
    if config.groups == "random":
        result = grouping.random_groups(neurons_TI.shape[1], config.experts, generator)
    elif config.groups == "weights":
        result = grouping.balanced_groups(network.gate_IH.float(), config.experts, generator)
    else:
        norm_I = network.down_HI.float().norm(dim=0)
        result = grouping.balanced_groups(grouping.coactivation(neurons_TI * norm_I), config.experts, generator)
    return result.to(neurons_TI.device)


def _loads(before: Tensor, router: Tensor, x_TH: Tensor, config: UpcycleConfig) -> tuple[float, float, int]:
    load = [routers.loads(routers.choose(r, x_TH, config.top_k)[0], config.experts) for r in (before, router)]
    return float(load[0].max()), float(load[1].max()), int((load[1] == 0).sum())


def fill_layer(layer: MoELayer, network: Network, config: UpcycleConfig, router: Tensor, groups: Tensor | None) -> None:
    """Set experts and router of a layer of the MoE; a split's down matrices are times K, against weights of 1/K."""
    gate_IH, up_IH, down_HI = network.gate_IH, network.up_IH, network.down_HI
    if groups is not None:
        down_EHW = down_HI[:, groups].transpose(0, 1) * config.top_k
        fill(layer, router, gate_IH[groups], up_IH[groups], down_EHW)
        return
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + layer.layer)
    copies = [_copies(matrix, config, generator) for matrix in (gate_IH, up_IH, down_HI)]
    fill(layer, router, *copies)


def _copies(matrix: Tensor, config: UpcycleConfig, generator: torch.Generator) -> Tensor:
    """One copy of the matrix for each expert [E, …], each with its own noise if there is any."""
    copies = matrix.detach().expand(config.experts, *matrix.shape)
    if not config.noise:
        return copies
    noise = torch.randn(copies.shape, generator=generator) * (config.noise * float(matrix.float().std()))
    return copies + noise.to(copies)
