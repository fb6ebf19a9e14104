"""Axes of figures for papers."""

import pytest

from turnout.report.kit.svg import Axes, ticks, viridis


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0, 55, [0, 10, 20, 30, 40, 50]), (-0.5, 4.5, [0, 1, 2, 3, 4])],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == expected


def test_colors_run_from_the_first_to_the_last_of_viridis() -> None:
    assert [viridis(share) for share in (-1, 0, 0.5, 1, 2)] == ["#440154", "#440154", "#1f988b", "#fde725", "#fde725"]


def test_a_line_is_interrupted_where_undefined_and_a_band_needs_every_interval() -> None:
    axes = Axes((0, 2), (0, 1))
    assert axes.line([0, 1, 2], [0, None, 1], "#000000").count("M") == 2
    assert axes.line([0, 1], [None, None], "#000000") == ""
    assert axes.band([0, 1], [[0, 1], None]) == ""
    assert "polygon" in axes.band([0, 1], [[0, 1], [0, 0.5]])
