"""The rotated-router null: measures of an untrained router of equal strength on the same inputs.

One layer at a time, on that layer's true inputs at the last token: R → R·Q with Q a random rotation keeps every row's
norm and all angles between rows; the logits are scaled so that the mean entropy of p equals the trained router's. The
routers' rows are stored beside the trace, so that the null needs no model.

Shapes: S samples, H hidden size, E experts, D domains, P draws.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from turnout import ops
from turnout.auditing.evidence.bootstrap import Clusters
from turnout.auditing.measures import MEASURES, Routing
from turnout.models.fast.products import product
from turnout.models.wrap.anatomy import MoE, routing_scores
from turnout.models.wrap.families import Scoring
from turnout.runs import RunFolder

DRAWS = 199
ROUTERS_FILE = "routers.safetensors"
_ENTROPY_SAMPLES = 2048  # enough to estimate a mean entropy to a thousandth
_STEPS = 30  # of bisection, on a scale between 2⁻¹⁰ and 2¹⁰

ScoringFunction = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Router:
    """Rows R [E, H] of one layer's router, its bias [E] or None, and its scoring function."""

    rows_EH: Tensor
    bias_E: Tensor | None
    scoring: Scoring

    def scores(self, logits_SE: Tensor) -> Tensor:
        """Compute p [S, E] from logits as the model does; see `routing_scores`."""
        return routing_scores(logits_SE, self.scoring)


def store_routers(moe: MoE, run: RunFolder) -> None:
    """Write the rows of every router that is a single linear map, in float32."""
    arrays = {}
    for layer in moe.layers:
        if (rows := layer.rows()) is not None:
            arrays[f"{layer.layer}.{layer.scoring}.weight"] = rows[0].float().cpu().numpy()
            if rows[1] is not None:
                arrays[f"{layer.layer}.{layer.scoring}.bias"] = rows[1].float().cpu().numpy()
    if arrays:
        run.write_arrays(ROUTERS_FILE, arrays)


def read_routers(run: RunFolder) -> dict[int, Router]:
    """The stored routers by layer; empty for a run without them."""
    arrays = {name: torch.from_numpy(array) for name, array in (run.read_arrays(ROUTERS_FILE) or {}).items()}
    routers = {}
    for scoring in ("softmax", "sigmoid"):
        for name, rows_EH in arrays.items():
            layer, kind, part = name.split(".")
            if kind == scoring and part == "weight":
                routers[int(layer)] = Router(rows_EH, arrays.get(f"{layer}.{kind}.bias"), scoring)
    return routers


def rotated_contributions(
    inputs_SH: Tensor,
    router_EH: Tensor,
    bias_E: Tensor | None,
    scoring: ScoringFunction,
    clusters: Clusters,
    *,
    seed: int,
    n: int = DRAWS,
) -> Tensor:
    """Mean p of each domain under `n` rotated routers, [P, D, E].

    Args:
        inputs_SH: the router's inputs at each sample's last token.
        router_EH: its rows.
        bias_E: its bias, if it has one.
        scoring: logits [S, E] → p [S, E], as the model computes it.
        clusters: the samples' domains.
        seed: seed for the rotations.
        n: number of draws.
    """
    generator = torch.Generator().manual_seed(seed)
    domain_S = torch.from_numpy(clusters.domain_S)
    inputs_SH, router_EH = inputs_SH.float(), router_EH.float()
    subset = torch.randperm(len(inputs_SH), generator=generator)[:_ENTROPY_SAMPLES]
    target = _entropy(scoring(_logits(inputs_SH[subset], router_EH, bias_E)))
    draws, factor_Er = [], factor(router_EH)
    for _ in range(n):
        logits_SE = _logits(inputs_SH, rotated(factor_Er, router_EH.shape[1], generator), bias_E)
        scale = _matching_scale(logits_SE[subset], scoring, target)
        draws.append(ops.contribution(scoring(logits_SE * scale), domain_S, clusters.n_domains))
    return torch.stack(draws)


def factor(router_EH: Tensor) -> Tensor:
    """U·Σ [E, r] of R = U·Σ·Vᵀ, r = min(E, H): the part of R that a rotation keeps."""
    left, singular, _ = torch.linalg.svd(router_EH, full_matrices=False)
    return left * singular


def rotated(factor_Er: Tensor, hidden: int, generator: torch.Generator) -> Tensor:
    """R·Q [E, H] for a random rotation Q, without the H×H matrix.

    R = U·Σ·Vᵀ: the r orthonormal rows of Vᵀ·Q are uniformly random for any V.
    """
    gaussian = torch.randn(hidden, factor_Er.shape[1], generator=generator, dtype=factor_Er.dtype)
    q, r = torch.linalg.qr(gaussian)
    return factor_Er @ (q * r.diagonal().sign()).T  # the signs make QR's factor uniformly distributed


def summary(rotated_PDE: Tensor, k: int) -> dict[str, Any]:
    """Mean and 95 % quantile over rotated routers of each measure that has this null.

    A measure of the committee has under MEASURE_of_largest_q95 the quantile of its largest value for any m experts,
    m = 1…E.
    """
    in_draws, by_size = dict[str, Any](), dict[str, Any]()
    for name, measure in MEASURES.items():
        if measure.rotated:
            value_P = measure.values(Routing(rotated_PDE, k)).double()
            if not bool(value_P.isnan().any()):
                in_draws[name] = {"mean": value_P.mean().item(), "q95": torch.quantile(value_P, 0.95).item()}
        if measure.rotated_by_size is not None:
            by_size[f"{name}_of_largest_q95"] = quantile_by_size(measure.rotated_by_size(rotated_PDE)).tolist()
    return {"draws": len(rotated_PDE), **in_draws, **by_size}


def quantile_by_size(largest_PE: Tensor) -> NDArray[np.float64]:
    """95 % quantile over draws for each number of experts, [E]."""
    return torch.quantile(largest_PE.double(), 0.95, dim=0).numpy()


def _logits(inputs_SH: Tensor, router_EH: Tensor, bias_E: Tensor | None) -> Tensor:
    with torch.no_grad():
        return product(inputs_SH, router_EH.mT.float(), None if bias_E is None else bias_E.float())


def _entropy(p_SE: Tensor) -> float:
    """Mean entropy in nats."""
    return torch.special.entr(p_SE).sum(1).mean().item()


def _matching_scale(logits_SE: Tensor, scoring: ScoringFunction, target: float) -> float:
    """Factor on the logits that gives the mean entropy `target`; entropy falls as the factor grows."""
    low, high = -10.0, 10.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if _entropy(scoring(logits_SE * 2**middle)) > target:
            low = middle
        else:
            high = middle
    return 2.0**low
