"""Reasoning: the output of short Python programs."""

from collections.abc import Callable, Sequence

from turnout.tasks.worlds.problem import Domain, Draw, Problem, near, reasoning

_WORDINGS = ("What does this program print?\n{}", "Read the code. What is printed?\n{}")
_NAMES = "abcnxy"


def _problem(draw: Draw, lines: Sequence[str], steps: str, answer: object, wrong: Sequence[str] = ()) -> Problem:
    code = "\n".join(lines)
    return Problem(
        code, draw.pick(_WORDINGS).format(code), steps, str(answer), wrong or near(draw, int(str(answer)), -99)
    )


def _assign(draw: Draw) -> Problem:
    a, b = draw.sample(_NAMES, 2)
    x, y, sign = draw.between(1, 20), draw.between(1, 20), draw.pick("+-")
    value = x + y if sign == "+" else x - y
    return _problem(
        draw, [f"{a} = {x}", f"{b} = {a} {sign} {y}", f"print({b})"], f"{b} is {x} {sign} {y} = {value}.", value
    )


def _reassign(draw: Draw) -> Problem:
    a, x, y, z = draw.pick(_NAMES), draw.between(1, 15), draw.between(1, 15), draw.between(2, 4)
    lines = [f"{a} = {x}", f"{a} = {a} + {y}", f"{a} = {a} * {z}", f"print({a})"]
    return _problem(draw, lines, f"{a} is {x}, then {x + y}, then {(x + y) * z}.", (x + y) * z)


def _swap(draw: Draw) -> Problem:
    a, b = draw.sample(_NAMES, 2)
    (x, y), z = draw.sample(range(1, 31), 2), draw.between(1, 9)
    shown = draw.pick((a, b))
    after = {a: y, b: x + z}
    lines = [f"{a} = {x}", f"{b} = {y}", f"{a}, {b} = {b}, {a}", f"{b} = {b} + {z}", f"print({shown})"]
    steps = f"After the swap {a} is {y} and {b} is {x}. Then {b} is {x + z}."
    wrong = [str(v) for v in (x, y, x + z, y + z, x + y, x - 1, y - 1)]
    return _problem(draw, lines, steps, after[shown], wrong)


def _branch(draw: Draw) -> Problem:
    a, x, limit = draw.pick(_NAMES), draw.between(1, 20), draw.between(1, 20)
    up, down = draw.between(1, 9), draw.between(1, 9)
    value = x + up if x > limit else x - down
    lines = [
        f"{a} = {x}",
        f"if {a} > {limit}:",
        f"    {a} = {a} + {up}",
        "else:",
        f"    {a} = {a} - {down}",
        f"print({a})",
    ]
    steps = f"{x} is {'' if x > limit else 'not '}more than {limit}, so {a} is {value}."
    return _problem(draw, lines, steps, value)


def _loop(draw: Draw) -> Problem:
    a, x, step, n = draw.pick("abcn"), draw.between(0, 12), draw.between(1, 9), draw.between(2, 4)
    values = [x + step * i for i in range(1, n + 1)]
    lines = [f"{a} = {x}", f"for i in range({n}):", f"    {a} = {a} + {step}", f"print({a})"]
    return _problem(draw, lines, f"{a} is {x}, then {', then '.join(map(str, values))}.", values[-1])


def _while(draw: Draw) -> Problem:
    a, x, step, limit = draw.pick(_NAMES), draw.between(0, 12), draw.between(2, 9), draw.between(14, 30)
    values = [x]
    while values[-1] < limit:
        values.append(values[-1] + step)
    lines = [f"{a} = {x}", f"while {a} < {limit}:", f"    {a} = {a} + {step}", f"print({a})"]
    return _problem(draw, lines, f"{a} is {', then '.join(map(str, values))}.", values[-1])


def _numbers(draw: Draw, n: int) -> list[int]:
    return draw.sample(range(1, 21), n)


def _index(draw: Draw) -> Problem:
    values = _numbers(draw, 4)
    at = draw.below(4)
    a = draw.pick(_NAMES)
    steps = f"Counting from 0, number {at} of the list is {values[at]}."
    return _problem(draw, [f"{a} = {values}", f"print({a}[{at}])"], steps, values[at], [str(v) for v in values])


def _length(draw: Draw) -> Problem:
    values, more = _numbers(draw, draw.between(1, 6)), draw.between(1, 3)
    a = draw.pick(_NAMES)
    lines = [f"{a} = {values}"] + [f"{a}.append({v})" for v in _numbers(draw, more)] + [f"print(len({a}))"]
    total = len(values) + more
    return _problem(
        draw, lines, f"The list has {len(values)} items and gets {more}, so {total}.", total, near(draw, total, 1)
    )


def _largest(draw: Draw) -> Problem:
    values, name = _numbers(draw, 4), draw.pick(("max", "min"))
    a, answer = draw.pick(_NAMES), max(values) if name == "max" else min(values)
    word = "largest" if name == "max" else "smallest"
    lines = [f"{a} = {values}", f"print({name}({a}))"]
    return _problem(
        draw, lines, f"The {word} of {', '.join(map(str, values))} is {answer}.", answer, [str(v) for v in values]
    )


def _total(draw: Draw) -> Problem:
    values, a, t = _numbers(draw, 3), draw.pick("abc"), draw.pick("nxy")
    lines = [f"{a} = {values}", f"{t} = 0", f"for i in {a}:", f"    {t} = {t} + i", f"print({t})"]
    sums = [values[0], values[0] + values[1], sum(values)]
    return _problem(draw, lines, f"{t} is 0, then {', then '.join(map(str, sums))}.", sum(values))


def _function(draw: Draw) -> Problem:
    name, x, y, z = draw.pick("fgh"), draw.between(1, 12), draw.between(2, 4), draw.between(1, 12)
    lines = [f"def {name}(a):", f"    return a * {y} + {z}", f"print({name}({x}))"]
    return _problem(draw, lines, f"{x} * {y} = {x * y}. {x * y} + {z} = {x * y + z}.", x * y + z)


def _remainder(draw: Draw) -> Problem:
    x, y, sign = draw.between(5, 60), draw.between(3, 9), draw.pick(("//", "%"))
    a, whole, rest = draw.pick(_NAMES), x // y, x % y
    answer = whole if sign == "//" else rest
    steps = f"{x} = {whole} * {y} + {rest}."
    return _problem(draw, [f"{a} = {x}", f"print({a} {sign} {y})"], steps, answer, near(draw, answer))


_TOPICS: dict[str, Callable[[Draw], Problem]] = {
    "assign": _assign,
    "reassign": _reassign,
    "swap": _swap,
    "branch": _branch,
    "for-loop": _loop,
    "while-loop": _while,
    "index": _index,
    "length": _length,
    "largest": _largest,
    "total": _total,
    "function": _function,
    "remainder": _remainder,
}
TRACING: Domain = reasoning("code", _TOPICS)
