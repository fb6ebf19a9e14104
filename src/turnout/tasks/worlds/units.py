"""Reasoning: conversion of units of time, length, weight and count."""

from collections.abc import Callable

from turnout.tasks.worlds.problem import Domain, Draw, Problem, near, reasoning

# singular, plural, number of the smaller unit in one, the smaller unit
UNITS = (
    ("week", "weeks", 7, "days"),
    ("day", "days", 24, "hours"),
    ("hour", "hours", 60, "minutes"),
    ("minute", "minutes", 60, "seconds"),
    ("year", "years", 12, "months"),
    ("foot", "feet", 12, "inches"),
    ("yard", "yards", 3, "feet"),
    ("metre", "metres", 100, "centimetres"),
    ("pound", "pounds", 16, "ounces"),
    ("gallon", "gallons", 4, "quarts"),
    ("dozen", "dozen", 12, "eggs"),
    ("fathom", "fathoms", 6, "feet"),
)


def _topic(one: str, many: str, factor: int, small: str) -> Callable[[Draw], Problem]:
    def whole(draw: Draw) -> Problem:
        n = draw.between(2, 30)
        texts = (f"How many {small} are {n} {many}?", f"Turn {n} {many} into {small}. How many?")
        return _problem(f"{n}", draw.pick(texts), f"{_known} {n} * {factor} = {n * factor}.", n * factor, factor, draw)

    def back(draw: Draw) -> Problem:
        n = draw.between(2, 30)
        texts = (f"How many {many} are {n * factor} {small}?", f"Turn {n * factor} {small} into {many}. How many?")
        return _problem(f"{n}", draw.pick(texts), f"{_known} {n * factor} / {factor} = {n}.", n, 1, draw)

    def mixed(draw: Draw) -> Problem:
        n, m = draw.between(2, 20), draw.between(1, 20)
        sign = draw.pick((1, -1))
        total, raw = n * factor + sign * m, n * factor
        if total <= 0:
            return whole(draw)
        joined = f"{n} {many} {'and' if sign > 0 else 'less'} {m} {small}"
        texts = (f"How many {small} are {joined}?", f"Turn {joined} into {small}. How many?")
        steps = f"{_known} {n} * {factor} = {raw}. {raw} {'+' if sign > 0 else '-'} {m} = {total}."
        return _problem(f"{n}{sign * m:+}", draw.pick(texts), steps, total, draw.pick((1, 10)), draw)

    def _problem(key: str, text: str, steps: str, answer: int, step: int, draw: Draw) -> Problem:
        return Problem(f"{many}{small}{key}", text, steps, str(answer), near(draw, answer, 1, step))

    _known = f"One {one} is {factor} {small}."
    return lambda draw: draw.pick((whole, back, mixed))(draw)


MEASURES: Domain = reasoning("units", {f"{one}-{small}": _topic(one, many, n, small) for one, many, n, small in UNITS})
