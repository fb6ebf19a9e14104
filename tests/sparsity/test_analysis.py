"""The two lines on curves whose shape is known, the optimum's interval, and the gaps."""

import numpy as np
import pytest

from turnout.errors import RecipeError
from turnout.sparsity.analysis.statistics import generalization_gap, loss_accuracy_gap, optimum, two_lines

X = np.log2(np.array([2, 4, 8, 16, 32, 64]))
U = 0.05 * (X - 3.5) ** 2
SATURATING = np.exp(-(X - 1))
NOISE = 0.05


def verdicts(curve, seeds=5, draws=300, margin=0.05):
    """Share of draws of each verdict for noisy curves of one shape; seeds also differ by an offset of their own."""
    rng = np.random.default_rng(0)
    given = []
    for _ in range(draws):
        y = curve + rng.normal(0, NOISE, (seeds, len(X))) + rng.normal(0, 0.3, (seeds, 1))
        given.append(two_lines(X, y, margin).verdict)
    return {verdict: given.count(verdict) / draws for verdict in ("U", "monotone", "cannot tell")}


def test_finds_a_clear_u():
    assert verdicts(U)["U"] > 0.95


@pytest.mark.parametrize("curve", [SATURATING, -0.1 * X, np.zeros(6)], ids=["saturating", "line", "flat"])
def test_other_shapes_are_seldom_called_a_u(curve):
    assert verdicts(curve)["U"] <= 0.06


def test_a_quadratic_would_call_the_saturating_curve_a_u():
    a, b, _ = np.polyfit(X, SATURATING, 2)
    assert a > 0
    assert X[0] < -b / (2 * a) < X[-1]


def test_monotone_needs_a_right_line_below_the_margin():
    falling = verdicts(-0.1 * X)
    assert falling["monotone"] > 0.9
    assert verdicts(U)["monotone"] < 0.01
    assert verdicts(SATURATING, margin=1e-6)["monotone"] < 0.3


def test_with_noise_it_cannot_tell():
    rng = np.random.default_rng(1)
    result = two_lines(X, rng.normal(0, 5, (3, 6)), 0.01)
    assert result.verdict == "cannot tell"
    assert result.left.low < result.left.mean < result.left.high


def test_a_break_is_found_on_other_seeds():
    y = np.tile(U, (4, 1))
    y[0, 1] = -100  # a wild value of seed 0 may move the other seeds' breaks, never its own
    result = two_lines(X, y, 0.05)
    assert result.breaks[0] == two_lines(X, np.tile(U, (4, 1)), 0.05).breaks[0] == X[2]
    assert set(result.breaks[1:]) == {X[1]}


def test_slopes_are_least_squares_slopes():
    y = np.stack([U, U + 1, U + 2])
    result = two_lines(X, y, 0.05)
    at = int(np.flatnonzero(result.breaks[0] == X)[0])
    design = np.stack([X[: at + 1], np.ones(at + 1)], 1)
    assert result.left.mean == pytest.approx(np.linalg.lstsq(design, U[: at + 1], rcond=None)[0][0])
    assert result.to_dict()["verdict"] == "U"


@pytest.mark.parametrize(
    ("x", "y", "margin", "message"),
    [
        (X[:3], np.ones((5, 3)), 1.0, "three curves of the same points, four or more"),
        (X, np.ones((2, 6)), 1.0, "three curves of the same points, four or more"),
        (X[::-1], np.ones((5, 6)), 1.0, "ascending order"),
        (X, np.full((5, 6), np.nan), 1.0, "finite values"),
        (X, np.ones((5, 6)), 0.0, "^margin: "),
    ],
)
def test_refuses_bad_values(x, y, margin, message):
    with pytest.raises(RecipeError, match=message):
        two_lines(x, y, margin)


def test_optimum_of_a_parabola_is_its_vertex():
    best = optimum(X, np.stack([U, U, U]))
    assert best.x == pytest.approx(3.5)
    assert best.low == pytest.approx(3.5)
    assert best.at_edge == 0


def test_optimum_interval_covers_the_truth():
    rng = np.random.default_rng(0)
    covered = 0
    for draw in range(100):
        best = optimum(X, U + rng.normal(0, 0.02, (8, 6)), resamples=200, seed=draw)
        covered += best.low <= 3.5 <= best.high
    assert covered >= 80  # percentile intervals of eight seeds are a little short


def test_an_optimum_outside_the_grid_is_marked():
    assert optimum(X, np.stack([-X, -X])).at_edge == 1


def test_gaps():
    loss, accuracy = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.9, 0.5, 0.6, 0.1])
    assert generalization_gap(loss, loss - 0.5).tolist() == [0.5] * 4
    gap = loss_accuracy_gap(loss, accuracy)
    assert gap == pytest.approx([0, -0.05, 0.05, 0])
    assert loss_accuracy_gap(loss, 1 - loss / 10) == pytest.approx(np.zeros(4))
