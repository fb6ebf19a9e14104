"""Reasoning: edits of short words, spelled letter by letter so that each letter is a token."""

from collections.abc import Callable
from dataclasses import dataclass

from turnout.tasks.worlds.problem import Domain, Draw, Problem, near, reasoning

_LETTERS = "abdeiklmnorstu"
_VOWELS = "aeiou"


@dataclass(frozen=True)
class Edit:
    """An edit of a word and the wordings of its question."""

    wordings: tuple[str, str]
    apply: Callable[[str], str]


EDITS = {
    "reverse": Edit(("Write {} backwards.", "Turn {} around, last letter first."), lambda w: w[::-1]),
    "drop-first": Edit(("Take the first letter off {}.", "Remove the first letter of {}."), lambda w: w[1:]),
    "drop-last": Edit(("Take the last letter off {}.", "Remove the last letter of {}."), lambda w: w[:-1]),
    "drop-ends": Edit(("Take both ends off {}.", "Remove the first and last letter of {}."), lambda w: w[1:-1]),
    "swap-ends": Edit(
        ("Swap the first and last letter of {}.", "In {} let the first and last letter change places."),
        lambda w: w[-1] + w[1:-1] + w[0],
    ),
    "first-to-end": Edit(
        ("Move the first letter of {} to the end.", "Put the first letter of {} behind the others."),
        lambda w: w[1:] + w[0],
    ),
    "last-to-front": Edit(
        ("Move the last letter of {} to the front.", "Put the last letter of {} before the others."),
        lambda w: w[-1] + w[:-1],
    ),
    "double-first": Edit(("Double the first letter of {}.", "Write the first letter of {} twice."), lambda w: w[0] + w),
    "double-last": Edit(("Double the last letter of {}.", "Write the last letter of {} twice."), lambda w: w + w[-1]),
    "drop-vowels": Edit(
        ("Take all vowels out of {}.", "Remove every vowel from {}."),
        lambda w: "".join(c for c in w if c not in _VOWELS),
    ),
    "sort": Edit(("Put the letters of {} in order.", "Sort the letters of {}."), lambda w: "".join(sorted(w))),
}


def _word(draw: Draw, length: int) -> str:
    """Different letters: a consonant, a vowel, then any."""
    start = draw.pick([c for c in _LETTERS if c not in _VOWELS]) + draw.pick(_VOWELS)
    return start + "".join(draw.sample([c for c in _LETTERS if c not in start], length - 2))


def _spaced(word: str) -> str:
    return " ".join(word)


def _edit(name: str) -> Callable[[Draw], Problem]:
    def make(draw: Draw) -> Problem:
        word = _word(draw, draw.between(3, 5))
        answer = EDITS[name].apply(word)
        return Problem(
            f"{name}:{word}",
            f"{draw.pick(EDITS[name].wordings).format(_spaced(word))} What is it now?",
            f"From {_spaced(word)} it becomes {_spaced(answer)}.",
            _spaced(answer),
            wrong_edits(draw, word, answer),
        )

    return make


def wrong_edits(draw: Draw, word: str, answer: str) -> list[str]:
    """The answer with two letters swapped or one changed, and other edits of the same word that have its length."""
    wrong = [e.apply(word) for e in EDITS.values() if len(e.apply(word)) == len(answer)] + [word] * (
        len(word) == len(answer)
    )
    changed = 0
    while changed < 8 or len(set(wrong) - {answer}) < 3:  # eight draws may repeat: short answers have few variants
        at, letters = draw.below(len(answer)), list(answer)
        letters[at] = draw.pick([c for c in _LETTERS if c != answer[at]])
        wrong.append("".join(letters))
        changed += 1
    return [_spaced(w) for w in dict.fromkeys(wrong) if w != answer]


def _replace(draw: Draw) -> Problem:
    word = _word(draw, draw.between(3, 5))
    old, new = draw.pick(word), draw.pick([c for c in _LETTERS if c not in word])
    answer = word.replace(old, new)
    texts = ("In {} replace {} by {}. What is it now?", "Take {} and write, for {}, the letter {}. What is it now?")
    steps = f"Where {_spaced(word)} has {old}, write {new}: {_spaced(answer)}."
    wrong = [_spaced(word.replace(c, new)) for c in word if c != old] + [_spaced(word)]
    return Problem(
        f"replace:{word}{old}{new}", draw.pick(texts).format(_spaced(word), old, new), steps, _spaced(answer), wrong
    )


def _join(draw: Draw) -> Problem:
    a, b = _word(draw, 3), _word(draw, draw.between(2, 3))
    texts = ("Join {} and {}. What is it?", "Write {} and then {} as one word. What is it?")
    answer = a + b
    wrong = [_spaced(w) for w in (b + a, a[::-1] + b, a + b[::-1], a[:-1] + b, a + b[1:]) if w != answer]
    text = draw.pick(texts).format(_spaced(a), _spaced(b))
    return Problem(
        f"join:{a},{b}", text, f"{_spaced(a)} and {_spaced(b)} make {_spaced(answer)}.", _spaced(answer), wrong
    )


def _nth(draw: Draw) -> Problem:
    word = _word(draw, draw.between(4, 6))
    n = draw.below(len(word))
    name = ("first", "second", "third", "fourth", "fifth", "sixth")[n]
    texts = (f"What is the {name} letter of {_spaced(word)}?", f"In {_spaced(word)}, which letter is the {name}?")
    return Problem(
        f"nth:{word}{n}", draw.pick(texts), f"Letter {n + 1} of {_spaced(word)} is {word[n]}.", word[n], list(word)
    )


def _count(draw: Draw) -> Problem:
    letter, n, length = draw.pick(_LETTERS), draw.below(5), draw.between(5, 7)
    others = [c for c in _LETTERS if c != letter]
    word = "".join(draw.sample([letter] * n + [draw.pick(others) for _ in range(length - n)], length))
    texts = (
        f"How many times is {letter} in {_spaced(word)}?",
        f"Count the letter {letter} in {_spaced(word)}. How many?",
    )
    steps = f"The word has {length} letters and {length - n} are not {letter}."
    return Problem(f"count:{word}{letter}", draw.pick(texts), steps, str(n), near(draw, n))


STRINGS: Domain = reasoning(
    "strings",
    {name: _edit(name) for name in EDITS} | {"replace": _replace, "join": _join, "nth": _nth, "count": _count},
)
