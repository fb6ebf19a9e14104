"""Reasoning: the next term of number, letter and color sequences."""

from collections.abc import Sequence
from itertools import pairwise
from string import ascii_lowercase

from turnout.tasks.worlds.problem import Domain, Draw, Problem, near, reasoning

_WORDINGS = ("What comes next: {}?", "Which one follows {}?", "Continue the row {}. What is next?")
_COLORS = ("red", "blue", "green", "white", "black", "brown", "pink", "grey")


def _problem(draw: Draw, terms: Sequence[object], steps: str, wrong: Sequence[str] = ()) -> Problem:
    """A problem whose answer is the last of `terms`."""
    *shown, answer = (str(t) for t in terms)
    row = ", ".join(shown)
    return Problem(row, draw.pick(_WORDINGS).format(row), steps, answer, wrong or near(draw, int(answer)))


def _up(draw: Draw) -> Problem:
    start, step = draw.between(1, 40), draw.between(2, 15)
    terms = [start + step * i for i in range(5)]
    return _problem(draw, terms, f"Each is {step} more than the last. {terms[3]} + {step} = {terms[4]}.")


def _down(draw: Draw) -> Problem:
    step, last = draw.between(2, 15), draw.between(0, 40)
    terms = [last + step * i for i in range(4, -1, -1)]
    return _problem(draw, terms, f"Each is {step} less than the last. {terms[3]} - {step} = {terms[4]}.")


def _times(draw: Draw) -> Problem:
    factor = draw.between(2, 3)
    start = draw.between(1, 90 if factor == 2 else 30)
    terms = [start * factor**i for i in range(5)]
    return _problem(draw, terms, f"Each is {factor} times the last. {terms[3]} * {factor} = {terms[4]}.")


def _alternating(draw: Draw) -> Problem:
    terms, first, second = [draw.between(10, 40)], draw.between(2, 12), draw.between(1, 9)
    for i in range(5):
        terms.append(terms[-1] + (first if i % 2 == 0 else -second))
    return _problem(
        draw, terms, f"It goes up by {first} and down by {second} in turn. {terms[4]} + {first} = {terms[5]}."
    )


def _growing(draw: Draw) -> Problem:
    terms, step, more = [draw.between(1, 40)], draw.between(1, 9), draw.between(1, 4)
    for i in range(4):
        terms.append(terms[-1] + step + more * i)
    last = step + 3 * more
    return _problem(
        draw, terms, f"The steps grow by {more}. The next step is {last}. {terms[3]} + {last} = {terms[4]}."
    )


def _sum_of_two(draw: Draw) -> Problem:
    terms = [draw.between(1, 20), draw.between(1, 20)]
    for _ in range(4):
        terms.append(terms[-1] + terms[-2])
    return _problem(draw, terms, f"Each is the sum of the two before it. {terms[3]} + {terms[4]} = {terms[5]}.")


def _squares(draw: Draw) -> Problem:
    start, off = draw.between(1, 8), draw.between(0, 40)
    terms = [i * i + off for i in range(start, start + 5)]
    steps = [b - a for a, b in pairwise(terms)]
    return _problem(
        draw, terms, f"The steps grow by 2. The next step is {steps[3]}. {terms[3]} + {steps[3]} = {terms[4]}."
    )


def _two_rows(draw: Draw) -> Problem:
    a, b, up, down = draw.between(1, 30), draw.between(30, 60), draw.between(1, 9), draw.between(1, 9)
    terms = [a, b, a + up, b - down, a + 2 * up, b - 2 * down, a + 3 * up]
    return _problem(
        draw, terms, f"Two rows take turns. In the first each is {up} more. {terms[4]} + {up} = {terms[6]}."
    )


def _letters(draw: Draw, step: int) -> Problem:
    skip = abs(step)
    at = draw.below(26)
    letters = [ascii_lowercase[(at + step * i) % 26] for i in range(5)]
    way = "on" if step > 0 else "back"
    steps = (
        f"Each letter is {skip} {way} from the last, and a follows z. {skip} {way} from {letters[3]} is {letters[4]}."
    )
    return _problem(draw, letters, steps, draw.sample(ascii_lowercase, 8))


def _cycle(draw: Draw) -> Problem:
    period = draw.between(3, 4)
    colors = draw.sample(_COLORS, period)
    shown = draw.between(period + 1, 2 * period + 1)
    terms = [colors[i % period] for i in range(shown + 1)]
    steps = f"The colours repeat after {period}. After {terms[-2]} comes {terms[-1]}."
    return _problem(draw, terms, steps, colors if period == 4 else _COLORS)


SEQUENCES: Domain = reasoning(
    "sequences",
    {
        "up": _up,
        "down": _down,
        "times": _times,
        "alternating": _alternating,
        "growing": _growing,
        "sum-of-two": _sum_of_two,
        "squares": _squares,
        "two-rows": _two_rows,
        "letters-on": lambda draw: _letters(draw, draw.between(1, 6)),
        "letters-back": lambda draw: _letters(draw, -draw.between(1, 6)),
        "cycle": _cycle,
    },
)
