"""Sizes as people write them, read and shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.errors import RecipeError
from turnout.quantities import parse_bytes, parse_count, show_bytes, show_count


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("170M", 170_000_000),
        ("1.3B", 1_300_000_000),
        ("5T", 5 * 10**12),
        ("5t", 5 * 10**12),
        (" 2.5 K ", 2500),
        ("99_584", 99584),
        ("1,000", 1000),
        ("1,000,000", 10**6),
        ("1e9", 10**9),
        ("0.1B", 10**8),
        (4096, 4096),
        (125e9, 125 * 10**9),
    ],
)
def test_counts(text, number):
    assert parse_count("tokens", text) == number


@pytest.mark.parametrize(
    ("text", "number"), [("80GB", 80 * 10**9), ("80GiB", 80 * 2**30), ("1.5 TB", 1_500_000_000_000), (512, 512)]
)
def test_memory(text, number):
    assert parse_bytes("memory", text) == number


@pytest.mark.parametrize(
    "text", ["", "1.3X", "-1B", "0", "1.5", "B", "1e-9", "nan", "inf", "1.3BB", "5 apples", "٣", "1,3B", "1,0000"]
)
def test_no_counts(text):
    with pytest.raises(RecipeError, match=r"^active: expected a number above 0 such as .*, got") as raised:
        parse_count("active", text)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["", "80", "GB", "-80GB", "80GX", "0GB"])
def test_no_memory(text):
    if text == "80":
        assert parse_bytes("memory", text) == 80
        return
    with pytest.raises(RecipeError, match=r"^memory: expected an amount of memory"):
        parse_bytes("memory", text)


@given(st.integers(1, 10**16))
def test_what_is_shown_reads_as_nearly_the_same(number):
    assert parse_count("n", show_count(number)) == pytest.approx(number, rel=0.0051)


def test_shown():
    assert [show_count(n) for n in (7, 999, 1000, 99584, 999_999, 1.36e9, 5e12, 3e19)] == [
        "7",
        "999",
        "1K",
        "99.6K",
        "1M",
        "1.36B",
        "5T",
        "3e19",
    ]
    assert [show_bytes(n) for n in (80e9, 2.36e12, 512)] == ["80 GB", "2.36 TB", "512 B"]
