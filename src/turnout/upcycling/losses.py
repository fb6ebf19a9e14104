"""Continuation NLL on held-out windows: of the dense model and of the MoE before and after fitting.

Shapes: N windows, T tokens of a window.
"""

from collections.abc import Sequence
from math import log

import numpy as np
import torch
from torch import Tensor

from turnout.listener import Listener
from turnout.models.forward.answers import text_bits
from turnout.models.wrap.anatomy import MoE
from turnout.upcycling.config import UpcycleConfig
from turnout.upcycling.layers import CONTROL

_LOGITS = 1 << 26  # of one batch: 256 MiB in float32
_RESAMPLES = 2000
_FEWEST = 10  # windows below which an interval would be far too narrow


def measured_models(config: UpcycleConfig) -> tuple[str, ...]:
    """Names of the models that are measured; with all experts chosen, fitting and grouping change nothing."""
    if config.method == "copy":
        return ("dense", "before fitting", "fitted")
    return ("dense", "fitted") if config.top_k == config.experts else ("dense", "before fitting", "fitted", CONTROL)


def window_losses(moe: MoE, windows_NT: Tensor, name: str, listener: Listener) -> list[float]:
    """Mean negative log-likelihood per predicted token of each window, in nats."""
    vocabulary = moe.model.get_output_embeddings().weight.shape[0]
    batch = max(1, _LOGITS // (windows_NT.shape[1] * vocabulary))
    losses: list[float] = []
    for rows in windows_NT.split(batch):
        losses += [bits * log(2) / (rows.shape[1] - 1) for bits in text_bits(moe, rows.tolist())]
        listener.progress(f"loss, {name}", len(losses), len(windows_NT), "windows")
    return losses


def loss_row(name: str, losses: Sequence[float], dense: Sequence[float], seed: int) -> dict[str, object]:
    """Mean of `losses`, its difference from that of `dense`, and the difference's 95 % bootstrap interval over windows.

    The interval is None below ten windows. Windows of one document are not independent: it may be somewhat narrow.
    """
    differences_N = np.asarray(losses) - np.asarray(dense)
    interval = None
    if name != "dense" and len(differences_N) >= _FEWEST:
        drawn = np.random.default_rng(seed).integers(len(differences_N), size=(_RESAMPLES, len(differences_N)))
        interval = [float(q) for q in np.quantile(differences_N[drawn].mean(1), (0.025, 0.975))]
    mean = float(np.mean(losses))
    return {"model": name, "loss": mean, "difference": float(differences_N.mean()), "interval": interval}


def first_tokens(windows_NT: Tensor, n: int = 64) -> list[int]:
    """The first token ids, on which two models are compared."""
    return [int(i) for i in torch.flatten(windows_NT)[:n]]
