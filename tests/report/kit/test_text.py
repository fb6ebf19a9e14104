"""Figures and names as text."""

from report.conftest import HOSTILE

from turnout.report.kit.text import against, counted, experts, mean, name, number, percent, signed, span


def test_numbers() -> None:
    assert [number(None), number(0.12345), number(0.12345, ".1f")] == ["–", "0.123", "0.1"]
    assert [signed(None), signed(0.5), signed(-0.5, [-1, 0])] == ["–", "+0.500", "-0.500 [-1.000 +0.000]"]
    assert [percent(None), percent(0), percent(0.031), percent(0.5)] == ["–", "0 %", "3.1 %", "50 %"]
    assert against(0.423, 0.1, [0.38, 0.46]) == "0.42 [.38 .46] (.10)"
    assert against(None, None) == "–"
    assert [mean([]), mean([None, 1.0, 3.0])] == [None, 2.0]


def test_counts_and_ranges() -> None:
    assert [counted(1, "layer"), counted(1200, "layer"), counted(2, "body", "bodies")] == [
        "1 layer",
        "1,200 layers",
        "2 bodies",
    ]
    assert [span([8, 8]), span([8, 4, 6])] == ["8", "4 to 8"]
    assert experts([7, 13, 40, 2, 3]) == "7, 13, 40 +2"


def test_names_cannot_control_a_terminal() -> None:
    assert name("a\x1b[31mb\u202ec") == "a [31mb c"
    assert len(name(HOSTILE[7])) == 40
