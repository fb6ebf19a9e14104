"""How surprised a model is by the held-out windows, and how much more than the dense model. Shapes: N windows."""

from collections.abc import Callable, Sequence
from math import log

import numpy as np
import torch
from torch import Tensor

from turnout.models.forward.answers import text_bits
from turnout.models.wrap.anatomy import MoE

_LOGITS = 1 << 26  # of one batch: 256 MiB in float32
_RESAMPLES = 2000
_FEWEST = 10  # windows under which an interval would be far too narrow


def window_losses(moe: MoE, windows: Tensor, heard: Callable[[int], None]) -> list[float]:
    """Mean negative log-likelihood a predicted token, in nats, of each window [N, T]; `heard` is told windows done."""
    vocabulary = moe.model.get_output_embeddings().weight.shape[0]
    batch = max(1, _LOGITS // (windows.shape[1] * vocabulary))
    found: list[float] = []
    for rows in windows.split(batch):
        found += [bits * log(2) / (rows.shape[1] - 1) for bits in text_bits(moe, rows.tolist())]
        heard(len(found))
    return found


def loss_row(name: str, losses: Sequence[float], dense: Sequence[float], seed: int) -> dict[str, object]:
    """`losses`' mean, its difference from `dense`'s, and the difference's 95 % interval over windows (bootstrap).

    The interval is None under ten windows. Windows of one document are not independent: it may be somewhat narrow.
    """
    differences_N = np.asarray(losses) - np.asarray(dense)
    interval = None
    if name != "dense" and len(differences_N) >= _FEWEST:
        drawn = np.random.default_rng(seed).integers(len(differences_N), size=(_RESAMPLES, len(differences_N)))
        interval = [float(q) for q in np.quantile(differences_N[drawn].mean(1), (0.025, 0.975))]
    mean = float(np.mean(losses))
    return {"model": name, "loss": mean, "difference": float(differences_N.mean()), "interval": interval}


def first_tokens(windows: Tensor, most: int = 64) -> list[int]:
    """A few token ids to compare two models on."""
    return [int(i) for i in torch.flatten(windows)[:most]]
