r"""Numbers in text: the last one of an output, or the only one of a gold answer, in one canonical spelling.

docs/reference/tasks.md has the table of what is read how; a property test formats numbers so and reads them back.

- Groups of three digits by comma, apostrophe, underscore, a no-break or thin space, LaTeX's `{,}` and `\,`; Indian
  groups (12,34,567); dots where there are two groups or a decimal comma (1.234.567, 1.234,5).
- A sign before the number or its currency: hyphen, Unicode minus and dashes, plus. Between two numbers a dash is none.
- Scientific notation: 1.5e3, 1.5 × 10^3, 1.5 \times 10^{3}, 10³.
- A currency, percent sign or unit before or after the number is ignored.
"""

import re
from decimal import Decimal

_SPACES = "\u00a0\u2007\u2008\u2009\u200a\u202f"
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2212\ufe58\ufe63\uff0d"
_MAX_EXPONENT = 100  # beyond it a number is compared as mantissa and exponent
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_CURRENCY = r"(?:(?:US|A|C|HK|NZ)?\\?\$|[€£¥₹₩₽]|USD|EUR|GBP|JPY|INR|KRW|CHF)"
_GROUP = rf"(?:,|'|’|_|[{_SPACES}])"
_WHOLE = (
    rf"\d{{1,3}}(?:{_GROUP}\d{{3}})+(?!\d)"  # 70,000
    r"|\d{1,2}(?:,\d{2})+,\d{3}(?!\d)"  # 12,34,567
    r"|\d+"
)
_DOTTED = r"\d{1,3}(?:\.\d{3}){2,}(?:,\d+)?(?!\d|[.,]\d)|\d{1,3}(?:\.\d{3})+,\d+(?!\d|[.,]\d)"  # 1.234.567 and 1.234,5
_EXPONENT = r"(?:[eE][-+]?\d{1,6}(?![\w])|\s*(?:[×x*·]|\\times|\\cdot)\s*10\^?(?:\{[-+]?\d{1,3}\}|[-+]?\d{1,3}))"
_POWER = r"10\^(?:\{[-+]?\d{1,3}\}|[-+]?\d{1,3})"
_DIGITS = rf"(?:{_POWER}|{_DOTTED}|(?:(?:{_WHOLE})(?:\.\d+)?|(?<!\w)\.\d+)(?:{_EXPONENT})?)"
_SIGN = r"(?:(?<![\w)])[-+])?"  # after a word or a number a dash joins: "3-5", "x-1"; before a space it is a bullet
_NUMBER = re.compile(rf"(?P<sign>{_SIGN})(?:{_CURRENCY}\s?(?P<inner>[-+]?))?(?P<digits>{_DIGITS})")
_UNIT = (
    r"%|°[CF]?|percent|dollars?|cents?|euros?|pounds?|rupees?|won|yen|mm|cm|m|km|mg|g|kg|ml|l|s|ms|min|h|"
    r"seconds?|minutes?|hours?|days?|weeks?|months?|years?|miles?|feet|inches|kg|mph|km/h"
)
_ALONE = re.compile(rf"{_NUMBER.pattern}\s*(?:{_CURRENCY}|(?:{_UNIT}))?\s*\.?", re.IGNORECASE)


def last_number(text: str) -> str | None:
    r"""The last number of a text in canonical form; in `\boxed{…}`, if there is one. None where there is none.

    >>> last_number(r"so \boxed{9{,}500}"), last_number("it costs -$18."), last_number("about 3–5")
    ('9500', '-18', '5')
    """
    numbers = list(_NUMBER.finditer(_prepared(_boxed(text))))
    return _canonical(numbers[-1]) if numbers else None


def only_number(text: str) -> str | None:
    r"""The number that a text consists of, with its currency or unit; None if it is something else.

    >>> only_number("$70,000"), only_number("-$18"), only_number("1/2"), only_number("12 Angry Men")
    ('70000', '-18', None, None)
    """
    match = _ALONE.fullmatch(_prepared(_boxed(text)).strip())
    return _canonical(match) if match else None


def _boxed(text: str) -> str:
    r"""The content of the last `\boxed{…}`, braces balanced; the text itself without one."""
    start = text.rfind(r"\boxed{")
    if start < 0:
        return text
    begin, depth = start + len(r"\boxed{"), 1
    for end in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if depth == 0:
            return text[begin:end]
    return text[begin:]


def _prepared(text: str) -> str:
    """The text with one spelling of minus signs, spaces within numbers and LaTeX."""
    text = re.sub(rf"[{_DASHES}]", "-", text)
    text = re.sub(r"10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)", lambda match: f"10^{{{match[1].translate(_SUPERSCRIPTS)}}}", text)
    text = text.replace("{,}", ",")
    text = re.sub(r"(?<=\d)\\[,;:! ](?=\d)", "\u202f", text)
    text = re.sub(r"\\(?:text|mathrm|mathbf|textbf)\{([^{}]*)\}", r"\1", text)
    return text.replace(r"\%", "%").replace(r"\$", "$")


def _canonical(match: re.Match[str]) -> str:
    """A matched number without groups, exponent, leading and trailing zeros."""
    digits = match["digits"]
    negative = "-" in match["sign"] or match["inner"] == "-"
    if re.fullmatch(_DOTTED, digits):
        digits = digits.replace(".", "").replace(",", ".")
    power = re.search(r"10\^?\{?([-+]?\d+)\}?$", digits) if re.search(r"\^|×|x|\*|·|\\", digits) else None
    mantissa = digits
    exponent = 0
    if power is not None:
        exponent, mantissa = int(power[1]), re.split(r"\s*(?:[×x*·]|\\times|\\cdot)|10\^", digits)[0] or "1"
    elif scientific := re.search(r"[eE]([-+]?\d+)$", digits):
        exponent, mantissa = int(scientific[1]), digits[: scientific.start()]
    value = Decimal(re.sub(_GROUP, "", mantissa))
    if value == 0:
        return "0"
    if abs(exponent) > _MAX_EXPONENT:
        return f"{'-' if negative else ''}{value.normalize():f}e{exponent}"
    value = value.scaleb(exponent)
    whole, _, fraction = f"{value:f}".partition(".")
    fraction = fraction.rstrip("0")
    number = (whole.lstrip("0") or "0") + (f".{fraction}" if fraction else "")
    return f"-{number}" if negative else number
