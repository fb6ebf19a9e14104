"""Figures of one M: planted pairings, null and expectation against all pairings, published vectors."""

import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch

from turnout import ops
from turnout.coupling.pairing import Draws, pairing_figures

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "coupling.json").read_text())
DRAWS = Draws.of(6, 4999, 2000, seed=0)


def planted(n=6, own=2.0, seed=0, pairing=None):
    """M whose entry [i, pairing[i]] is raised by `own`."""
    norms = torch.rand(n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 1
    norms[range(n), list(range(n)) if pairing is None else pairing] += own
    return norms


def test_a_planted_pairing_has_a_small_p():
    figures = pairing_figures(planted(), (1, 3), DRAWS)
    assert figures["rows"]["value"] == figures["columns"]["value"] == 1
    assert figures["rows"]["expected"] == figures["columns"]["expected"] == pytest.approx(1 / 6)
    assert figures["loss"][0]["value"] == 0 < figures["loss"][0]["expected"]
    assert max(figures[name]["p"] for name in ("rows", "columns", "ratio")) < 0.01  # one pairing of 720
    assert figures["loss"][0]["p"] < 0.01


def test_a_planted_other_pairing_has_a_large_p():
    figures = pairing_figures(planted(pairing=[1, 2, 3, 4, 5, 0]), (1,), DRAWS)
    assert figures["rows"]["value"] == figures["columns"]["value"] == 0
    assert figures["rows"]["interval"][1] > 0.3  # six rows are few
    assert min(figures["rows"]["p"], figures["loss"][0]["p"], figures["ratio"]["p"]) > 0.2
    assert figures["ratio"]["value"] < 1


def test_random_matrices_have_uniform_p():
    """The share of p ≤ 0.1 over matrices without any pairing is near 0.1."""
    draws = Draws.of(8, 299, 50, seed=1)
    matrices = [pairing_figures(planted(8, own=0, seed=seed), (1,), draws) for seed in range(150)]
    for p_values in ([of["loss"][0]["p"] for of in matrices], [of["ratio"]["p"] for of in matrices]):
        assert 0.03 < np.mean(np.array(p_values) <= 0.1) < 0.17
    assert np.mean([of["rows"]["p"] <= 0.1 for of in matrices]) < 0.15  # a count: p is discrete


def test_p_and_expectation_against_all_pairings():
    norms, own = planted(4, own=0.4), {}
    everything = [norms[:, list(p)] for p in permutations(range(4))]

    def dominant(m):
        return sum(all(m[i, i] > m[i, j] for j in range(4) if j != i) for i in range(4)) / 4

    def columns(m):
        return dominant(m.T)

    own["rows"], own["columns"] = [dominant(m) for m in everything], [columns(m) for m in everything]
    own["ratio"] = [float(m.diagonal().mean()) for m in everything]
    losses = [float(ops.erc_loss(m, 1)) for m in everything]
    figures = pairing_figures(norms, (1,), Draws.of(4, 20_000, 200, seed=0))
    for name, values in own.items():
        assert figures[name]["p"] == pytest.approx(np.mean(np.array(values) >= values[0] - 1e-12), abs=0.02)
    assert figures["rows"]["expected"] == pytest.approx(np.mean(own["rows"]))
    assert figures["columns"]["expected"] == pytest.approx(np.mean(own["columns"]))
    assert figures["loss"][0]["expected"] == pytest.approx(np.mean(losses))
    assert figures["loss"][0]["p"] == pytest.approx(np.mean(np.array(losses) <= losses[0] + 1e-12), abs=0.02)


@pytest.mark.parametrize("case", VECTORS, ids=range(len(VECTORS)))
def test_published_vectors(case):
    norms = torch.tensor(case["norms"], dtype=torch.float64)
    alphas = [float(alpha) for alpha in case["loss"]]
    figures = pairing_figures(norms, alphas, Draws.of(len(norms), 199, 200, seed=0))
    for loss, expected in zip(figures["loss"], case["loss"].values(), strict=True):
        assert loss["value"] == pytest.approx(expected, abs=1e-9)


def test_degenerate_matrices():
    zeros = pairing_figures(torch.zeros(3, 3, dtype=torch.float64), (1,), Draws.of(3, 199, 200, seed=0))
    assert zeros["rows"]["value"] == 0  # no entry is larger than another
    assert zeros["rows"]["expected"] == 0
    assert zeros["rows"]["p"] == zeros["loss"][0]["p"] == 1
    assert zeros["ratio"]["value"] is None
    one = pairing_figures(torch.ones(1, 1, dtype=torch.float64), (1,), Draws.of(1, 199, 200, seed=0))
    assert (one["rows"]["value"], one["rows"]["p"], one["ratio"]["value"], one["rest"]) == (1, 1, None, None)
