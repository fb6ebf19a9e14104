"""Figures of one M for the pairing of router rows with experts, with the null of random pairings.

Shapes: N router rows and experts, P random pairings, B bootstrap draws of N experts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from turnout import ops


@dataclass(frozen=True, eq=False)
class Draws:
    """Random pairings and resamples, the same for every layer of one size.

    Attributes:
        pairing_PN: expert of each row in each random pairing.
        resample_BN: experts of each bootstrap draw, with replacement.
    """

    pairing_PN: NDArray[np.int64]
    resample_BN: NDArray[np.int64]

    @classmethod
    def of(cls, n: int, permutations: int, resamples: int, seed: int) -> "Draws":
        """Draws for `n` experts; the same arguments give the same draws."""
        rng = np.random.default_rng([seed, n])
        pairing_PN = rng.permuted(np.tile(np.arange(n), (permutations, 1)), axis=1)
        return cls(pairing_PN, rng.integers(n, size=(resamples, n)))


def pairing_figures(norms_NN: Tensor, alphas: Sequence[float], draws: Draws) -> dict[str, Any]:
    """The figures of one M.

    `diagonal` and `rest`: means of M[i, i] and of the other entries. `ratio`: the first over the second. `rows`,
    `columns`: share of rows (columns) whose diagonal is larger than all other entries. `loss`: the ERC loss at each α.
    Each of the last four has a 95 % interval, its expectation over all pairings of rows with experts, and p: the share
    of random pairings, the real one included, that are at least as coupled. Undefined figures are None.

    Args:
        norms_NN: M, float64.
        alphas: values of α.
        draws: random pairings and resamples for N experts.
    """
    n = len(norms_NN)
    own_N = norms_NN.diagonal().numpy()
    rest_N = (norms_NN.sum(1).numpy() - own_N) / max(n - 1, 1)
    return {
        "diagonal": float(own_N.mean()),
        "rest": float(rest_N.mean()) if n > 1 else None,
        "ratio": _ratio(norms_NN.numpy(), own_N, rest_N, draws),
        "rows": _dominance(norms_NN, draws),
        "columns": _dominance(norms_NN.T, draws, columns=True),
        "loss": [{"alpha": alpha, **_loss(norms_NN, alpha, draws)} for alpha in alphas],
    }


def mean_figure(value_N: Tensor, draws: Draws) -> dict[str, Any]:
    """Mean with a 95 % interval over experts, smallest and largest value."""
    values = value_N.numpy()
    interval = _interval(values[draws.resample_BN].mean(1))
    return {"value": float(values.mean()), "interval": interval, "min": float(values.min()), "max": float(values.max())}


def dominant(norms_NN: Tensor) -> Tensor:
    """Whether each row's diagonal is larger than every other entry, [N] bool."""
    others_NN = norms_NN.masked_fill(torch.eye(len(norms_NN), dtype=torch.bool), -torch.inf)
    return norms_NN.diagonal() > others_NN.amax(1)


def _ratio(
    norms_NN: NDArray[np.float64], own_N: NDArray[np.float64], rest_N: NDArray[np.float64], draws: Draws
) -> dict[str, Any]:
    """Mean of the diagonal over mean of the rest; its expectation under random pairing is 1."""
    n = len(own_N)
    if n == 1 or not rest_N.all():
        return {"value": None, "interval": None, "expected": None, "p": None}
    own_P = norms_NN[np.arange(n), draws.pairing_PN].mean(
        1
    )  # a pairing that moves entries to the diagonal takes them from the rest
    own_B, rest_B = own_N[draws.resample_BN].mean(1), rest_N[draws.resample_BN].mean(1)
    return {
        "value": float(own_N.mean() / rest_N.mean()),
        "interval": _interval(own_B / rest_B),
        "expected": 1.0,
        "p": _p_value(own_P >= own_N.mean() * (1 - 1e-12)),
    }


def _dominance(norms_NN: Tensor, draws: Draws, columns: bool = False) -> dict[str, Any]:
    """Share of rows with a dominant diagonal; a random pairing gives a row its largest entry with probability 1/N."""
    n = len(norms_NN)
    largest = norms_NN.amax(1, keepdim=True)
    best_N = norms_NN.argmax(1).numpy()
    single_N = ((norms_NN == largest).sum(1) == 1).numpy()  # of two equal largest entries neither is dominant
    # In columns, expert j has its largest entry on the diagonal if its best row i is paired with j.
    hit_PN = draws.pairing_PN[:, best_N] == np.arange(n) if columns else draws.pairing_PN == best_N
    count = int(dominant(norms_NN).sum())
    return {
        "value": count / n,
        "interval": list(ops.wilson(count, n)),
        "expected": float(single_N.sum()) / n**2,
        "p": _p_value((hit_PN & single_N).sum(1) >= count),
    }


def _loss(norms_NN: Tensor, alpha: float, draws: Draws) -> dict[str, Any]:
    n, value = len(norms_NN), float(ops.erc_loss(norms_NN, alpha))
    cost_NN = ops.pairing_costs(norms_NN, alpha).numpy()
    loss_P = cost_NN[np.arange(n), draws.pairing_PN].sum(1)
    return {
        "value": value,
        "interval": _interval(cost_NN.diagonal()[draws.resample_BN].sum(1)),
        "expected": float(cost_NN.sum() / n),
        "p": _p_value(loss_P <= value * (1 + 1e-12)),  # includes the real pairing, up to the order of its sum
    }


def _interval(draws_B: NDArray[np.float64]) -> list[float]:
    low, high = np.quantile(draws_B, [0.025, 0.975])
    return [float(low), float(high)]


def _p_value(as_coupled_P: NDArray[np.bool_]) -> float:
    """Share of pairings that are at least as coupled, the real one included."""
    return float((1 + as_coupled_P.sum()) / (1 + len(as_coupled_P)))
