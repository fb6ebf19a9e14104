"""Captures without a model or torch: small random routing that satisfies the contract."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa

from turnout.runs import Sample, TraceLayer, rows

LAYERS = (TraceLayer(1, experts=6, top_k=2, shared=1), TraceLayer(3, experts=300, top_k=3))


class Tensor:
    """Stand-in for a CPU tensor: an object with `.numpy()`."""

    def __init__(self, values):
        self.values = values

    def numpy(self):
        return self.values


PER_SAMPLE = ("scores_BE", "weights_BK", "sum_scores_BE", "sum_weights_BE", "counts_BE")


def samples(n, seed=0, first=0):
    rng = np.random.default_rng([seed, 1])
    made = [rng.integers(0, 50_000, rng.integers(1, 9)).tolist() for _ in range(first + n)]
    return [
        Sample(i, f"q{i}", f"s{i % 3}", f"d{i % 2}", made[i], None if i % 4 == 0 else i % 4)
        for i in range(first, first + n)
    ]


def capture(asked, layers=LAYERS, seed=0, answers=True):
    """One batch of `asked`; the routing of a sample depends on its index only."""
    logprobs = [[-0.5 * s.index, -1.0] for s in asked] if answers else None
    captured = tuple(_layer(asked, layer, seed) for layer in layers)
    return SimpleNamespace(lengths_B=[len(s.tokens) for s in asked], layers=captured, choice_logprobs=logprobs)


def _layer(asked, layer, seed):
    chosen, *others = zip(*(_route(sample, layer, seed) for sample in asked), strict=True)
    stacked = {name: Tensor(np.stack(values)) for name, values in zip(PER_SAMPLE, others, strict=True)}
    return SimpleNamespace(layer=layer.layer, chosen_TK=Tensor(np.concatenate(chosen)), **stacked)


def _route(sample, layer, seed):
    rng = np.random.default_rng([seed, sample.index, layer.layer])
    scores_TE = rng.dirichlet(np.ones(layer.experts), len(sample.tokens))
    chosen_TK = np.argsort(-scores_TE, axis=1)[:, : layer.top_k]
    weights_TK = np.take_along_axis(scores_TE, chosen_TK, 1).astype(np.float32)
    full_TE = np.zeros(scores_TE.shape)
    np.put_along_axis(full_TE, chosen_TK, weights_TK, 1)
    kind = np.uint8 if layer.experts <= 256 else np.uint16
    return (
        chosen_TK.astype(kind),
        scores_TE[-1].astype(np.float32),
        weights_TK[-1],
        scores_TE.sum(0).astype(np.float32),
        full_TE.sum(0).astype(np.float32),
        np.bincount(chosen_TK.ravel(), minlength=layer.experts).astype(np.int64),
    )


def table(n=4, seed=0, first=0, layers=LAYERS) -> pa.Table:
    asked = samples(n, seed, first)
    return rows(asked, capture(asked, layers, seed), layers)
