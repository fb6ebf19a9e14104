"""Numbers in text: each spelling gives the number that was written, and only a number is one."""

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.tasks.exercises.exercise import parse_answer, read_gold
from turnout.tasks.exercises.numbers import last_number, only_number

VALUES = st.decimals(min_value=0, max_value=10**9, places=2).map(lambda value: value.normalize())
SPACES = ["\u00a0", "\u202f", "\u2009", r"\,"]


def grouped(whole, separator):
    return f"{int(whole):,}".replace(",", separator)


def indian(whole):
    head, tail = whole[:-3], whole[-3:]
    pairs = [head[max(0, i - 2) : i] for i in range(len(head), 0, -2)][::-1]
    return ",".join([*pairs, tail]) if head else tail


def spellings(value):
    """Every spelling of a number of at least 0."""
    whole, _, fraction = f"{value:f}".partition(".")
    end = f".{fraction}" if fraction else ""
    yield whole + end
    for separator in (",", "'", "’", "_", "{,}", *SPACES):
        yield grouped(whole, separator) + end
    yield indian(whole) + end
    if len(whole) > 6:
        yield grouped(whole, ".") + (f",{fraction}" if fraction else "")
    mantissa, exponent = f"{value:e}".lower().split("e") if value else ("0", "0")
    yield f"{mantissa}e{int(exponent)}"
    for times in ("×", r"\times", r"\cdot"):
        yield f"{mantissa} {times} 10^{{{int(exponent)}}}"


def wrapped(number, negative):
    """A number with every sign, currency and unit."""
    signs = ["-", "−", "–", "－"] if negative else ["", "+"]
    for sign in signs:
        yield f"{sign}{number}"
        yield f"{sign}${number}"
        yield f"${sign}{number}"
        yield f"{sign}{number} %"
        yield f"{sign}{number}\\%"
        yield f"{sign}{number} €"
        yield f"{sign}₹{number}"
        yield f"{sign}{number} km"


def canonical(value, negative):
    text = f"{value:f}"
    return f"-{text}" if negative and value else text


@settings(deadline=None, max_examples=60)
@given(VALUES, st.booleans())
def test_every_spelling_gives_the_number(value, negative):
    expected = canonical(value, negative)
    for number in spellings(value):
        for text in wrapped(number, negative):
            assert only_number(text) == expected, text
            assert last_number(f"so it is {text}.") == expected, text
            assert last_number(rf"2 + 2 = 4, \boxed{{{text}}}, in 3 steps") == expected, text


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (r"\boxed{9{,}500}", "9500"),
        ("-$18", "-18"),
        ("a range of 3-5", "5"),
        ("a range of 3–5", "5"),
        ("5 -3", "-3"),
        ("x-1", "1"),
        ("- 18 apples", "18"),
        ("either 3,5", "5"),
        ("(-4)", "-4"),
        ("10³", "1000"),
        (r"\boxed{\text{about }-3\%}", "-3"),
        (r"\boxed{\frac{1}{2}", "2"),
        ("1e-400 or so", "1e-400"),
        ("none", None),
    ],
)
def test_last_number(text, number):
    assert last_number(text) == number


@pytest.mark.parametrize("text", ["1/2", "12:30", "3-5", "12 Angry Men", "3,5", "1 2", "x", "", "-", "v1.2.3"])
def test_what_is_not_one_number(text):
    assert only_number(text) is None


@pytest.mark.parametrize(
    ("gold", "number"), [("-$18", "-18"), ("+5", "5"), ("#### 9{,}500", "9500"), ("18 dollars", "18")]
)
def test_gold_answers_have_signs_and_units_too(gold, number):
    assert read_gold(gold) == ("reasoning", number)


@settings(deadline=None)
@given(st.text())
def test_any_text_is_parsed_or_has_no_number(text):
    number = parse_answer(text, "reasoning")
    assert number is None or Decimal(number).is_finite()
