"""Sizes such as 170M, 1.3B, 5T (decimal), 80GB and 80GiB: parsed into whole numbers, and formatted."""

import re
from decimal import Decimal

from turnout.errors import RecipeError

_POWERS = {"": 0, "K": 3, "M": 6, "B": 9, "T": 12}
_COUNT = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(?:e\+?(\d{1,2}))?\s*([KMBT]?)", re.IGNORECASE | re.ASCII)
_GROUPING = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_BYTES = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(?:([KMGTP]?)(i?)B)?", re.IGNORECASE | re.ASCII)
_PREFIXES = ["", "K", "M", "G", "T", "P"]


def parse_count(where: str, text: str | float) -> int:
    """A number of parameters or tokens: "1.3B", "5T", "512", "1e9", or a number already.

    Raises:
        RecipeError: what does not parse, is no whole number, or is not above 0; `where` is the option's name.
    """
    matched = _COUNT.fullmatch(_GROUPING.sub("", str(text).strip()).replace("_", ""))
    number = Decimal(matched[1]).scaleb(int(matched[2] or 0) + _POWERS[matched[3].upper()]) if matched else Decimal(0)
    if number <= 0 or number != int(number):
        raise RecipeError(where, expected="a number above 0 such as 170M, 1.3B or 5T", received=text)
    return int(number)


def parse_bytes(where: str, text: str | float) -> int:
    """Memory: "80GB" (decimal), "80GiB" (powers of 1024), or a number of bytes.

    Raises:
        RecipeError: what does not parse or is not above 0; `where` is the option's name.
    """
    matched = _BYTES.fullmatch(str(text).strip())
    unit = (1024 if matched[3] else 1000) ** _PREFIXES.index((matched[2] or "").upper()) if matched else 0
    number = int(Decimal(matched[1]) * unit) if matched else 0
    if number <= 0:
        raise RecipeError(where, expected="an amount of memory above 0 such as 80GB or 24GiB", received=text)
    return number


def show_count(number: float) -> str:
    """Three digits and a decimal suffix: 1.36B, 170M, 5T; 3e19 beyond."""
    if number >= 1e15:
        return f"{number:.3g}".replace("e+", "e")
    return _shown(number, "KMBT", "")


def show_bytes(number: float) -> str:
    """Three digits and a decimal unit: 80 GB, 1.36 TB."""
    return _shown(number, "KMGTP", " ") + "B"


def _shown(number: float, suffixes: str, gap: str) -> str:
    power = 0
    while float(f"{number:.3g}") >= 1000 and power < len(suffixes):
        number, power = number / 1000, power + 1
    digits = f"{number:.3g}" if number < 1000 else f"{number:,.0f}"
    return digits + gap + (suffixes[power - 1] if power else "")
