"""Reasoning: chains of sums and products mod 23, 1 to 6 steps deep (as in arXiv 2407.20311)."""

from collections.abc import Callable

from turnout.tasks.worlds.problem import Domain, Draw, Problem, reasoning

MODULUS = 23
DEPTHS = range(1, 7)

_WORDINGS = (
    "Mod 23, start with {start}, {steps}. What is the result?",
    "Work modulo 23. Take {start}, {steps}. Which number is left?",
    "Count mod 23: begin at {start}, {steps}. Where does it end?",
)
_WORDS = {"+": "add {}", "-": "subtract {}", "*": "multiply by {}"}


def _apply(value: int, operation: str, by: int) -> int:
    return value + by if operation == "+" else value - by if operation == "-" else value * by


def _chain(depth: int, operations: str) -> Callable[[Draw], Problem]:
    def make(draw: Draw) -> Problem:
        start = draw.below(MODULUS)
        signs = [draw.pick(operations) for _ in range(depth)]
        if "*" in operations:  # a chain with products has at least one
            signs[draw.below(depth)] = "*"
        chain = [(sign, draw.between(2, 9) if sign == "*" else draw.between(1, MODULUS - 1)) for sign in signs]
        return _problem(draw, start, chain)

    return make


def _problem(draw: Draw, start: int, chain: list[tuple[str, int]]) -> Problem:
    value, lines, intermediate = start, [], []
    for sign, by in chain:
        raw = _apply(value, sign, by)
        intermediate.append(str(value))
        rest = "" if 0 <= raw < MODULUS else f" = {raw % MODULUS}"
        lines.append(f"{value} {sign} {by} = {raw}{rest}.")
        value = raw % MODULUS
    sign, by = chain[-1]
    slips = [str((value + 1) % MODULUS), str((value - 1) % MODULUS), str(_apply(value, "+", by) % MODULUS)]
    others = [str(v) for v in draw.sample(range(MODULUS), 6)]
    words = ", ".join(_WORDS[sign].format(by) for sign, by in chain)
    wrong = [w for w in dict.fromkeys((intermediate[-1], draw.pick(slips), *others)) if w != str(value)]
    key = f"{start}{''.join(f'{sign}{by}' for sign, by in chain)}"
    if len(chain) == 1 and sign != "-":  # 3 + 5 and 5 + 3 are the same problem
        key = f"{min(start, by)}{sign}{max(start, by)}"
    return Problem(key, draw.pick(_WORDINGS).format(start=start, steps=words), " ".join(lines), str(value), wrong)


ARITHMETIC: Domain = reasoning(
    "arithmetic",
    {
        f"{kind}-{depth}": _chain(depth, operations)
        for kind, operations in (("sums", "+-"), ("products", "+-*"))
        for depth in DEPTHS
    },
)
