"""Independent solvers, one for each reasoning domain, against the answers of the generated questions."""

import contextlib
import io
import re
from datetime import date, timedelta
from itertools import pairwise, permutations, product
from string import ascii_lowercase

import pytest

from turnout.tasks import worlds
from turnout.tasks.worlds.problem import Draw
from turnout.tasks.worlds.strings import wrong_edits

N = 1500
WEEK = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
YEAR = [date(2023, m, 1).strftime("%B") for m in range(1, 13)]  # 2023 is not a leap year


def ints(text):
    return [int(n) for n in re.findall(r"\d+", text)]


def arithmetic(q):
    start = int(re.search(r"(?:start with|Take|begin at) (\d+)", q.text)[1])
    for verb, by in re.findall(r"(add|subtract|multiply by) (\d+)", q.text):
        start = {"add": start + int(by), "subtract": start - int(by), "multiply by": start * int(by)}[verb]
    return str(start % 23)


def written(day):
    return f"{day.day} {day:%B}"


def dated(text):
    number, month = re.search(r"(\d+) ([A-Z][a-z]+)", text).groups()
    return date(2023, YEAR.index(month) + 1, int(number))


def calendar(q):
    kind, text, numbers = q.subject.split("/")[1], q.text, ints(q.text)
    sign = -1 if re.search(r"before|ago|earlier", text) else 1
    if kind.startswith("day-"):
        day = next(d for d in WEEK if d in text)
        return WEEK[(WEEK.index(day) + sign * numbers[0]) % 7]
    if kind.startswith("month-"):
        month = next(m for m in YEAR if m in text)
        return YEAR[(YEAR.index(month) + sign * numbers[0]) % 12]
    if kind.startswith("hour-"):
        hour = int(re.search(r"(\d+):00", text)[1])
        n = int(re.search(r"(\d+) hours", text)[1])
        return f"{(hour + sign * n) % 24}:00"
    if kind == "weekday-of-date":
        day = next(d for d in WEEK if d in text)
        return WEEK[(WEEK.index(day) + numbers[1] - numbers[0]) % 7]
    if kind in ("date-after", "date-before"):
        n = int(re.search(r"(\d+) days", text)[1])
        return written(dated(text) + sign * timedelta(days=n))
    if kind == "date-gap":
        first, second = re.findall(r"\d+ [A-Z][a-z]+", text)
        return str((dated(second) - dated(first)).days)
    return str(max(numbers) - min(numbers))


SIZES = {"days": 7, "hours": 24, "months": 12, "inches": 12, "centimetres": 100, "ounces": 16, "quarts": 4, "eggs": 12}
SIZES |= {"seconds": 60, "minutes": 60}


def units(q):
    one, small = q.subject.split("/")[1].split("-")
    factor = {"yard": 3, "fathom": 6}.get(one, SIZES.get(small))
    match = re.fullmatch(r"How many (\w+) are (.*)\?", q.text) or re.fullmatch(
        r"Turn (.*) into (\w+)\. How many\?", q.text
    )
    wanted, given = match.groups() if q.text.startswith("How") else reversed(match.groups())
    if wanted != small:
        return str(ints(given)[0] / factor).removesuffix(".0")
    whole, *rest = ints(given)
    return str(whole * factor + (-1 if " less " in given else 1) * sum(rest))


def rules(terms):
    """Every next term by a rule that the shown terms follow."""
    gaps = [b - a for a, b in pairwise(terms)]
    if len(set(gaps)) == 1:
        yield terms[-1] + gaps[0]
    if terms[0] and all(b * terms[0] == a * terms[1] for a, b in pairwise(terms)):
        yield terms[-1] * terms[1] // terms[0]
    if len({b - a for a, b in pairwise(gaps)}) == 1:
        yield terms[-1] + 2 * gaps[-1] - gaps[-2]
    if all(c == a + b for a, b, c in zip(terms, terms[1:], terms[2:], strict=False)):
        yield terms[-1] + terms[-2]
    if len(gaps) >= 4 and len(set(gaps[::2])) == len(set(gaps[1::2])) == 1:
        yield terms[-1] + gaps[-2]
    jumps = [c - a for a, c in zip(terms, terms[2:], strict=False)]
    if len(jumps) >= 4 and len(set(jumps[::2])) == len(set(jumps[1::2])) == 1:
        yield terms[-2] + jumps[-2]


def sequences(q):
    shown = re.search(r"(?:next:|follows|row) (.*?)[?.]", q.text)[1].split(", ")
    if shown[0].isdigit():
        answers = set(rules([int(t) for t in shown]))
    elif len(shown[0]) == 1:
        at = [ascii_lowercase.index(t) for t in shown]
        answers = {ascii_lowercase[(at[-1] + step) % 26] for step in {(b - a) % 26 for a, b in pairwise(at)}}
    else:
        period = next(p for p in range(1, len(shown)) if all(a == b for a, b in zip(shown, shown[p:], strict=False)))
        answers = {shown[len(shown) % period]}
    assert len(answers) == 1, f"{q.text} has {answers}"
    return str(answers.pop())


def strings(q):
    kind = q.subject.split("/")[1]
    words = [w.replace(" ", "") for w in re.findall(r"\b(?:[a-z] )+[a-z]\b", q.text)]
    if kind == "join":
        word = "".join(words)
    elif kind == "replace":
        old, new = re.search(r"(?:replace|for) (\w),? (?:by|the letter|write, the letter) ?(\w)?", q.text).groups()
        new = new or re.search(r"the letter (\w)", q.text)[1]
        word = next(w for w in words if len(w) > 2).replace(old, new)
    elif kind == "nth":
        names = ["first", "second", "third", "fourth", "fifth", "sixth"]
        return words[0][next(i for i, n in enumerate(names) if n in q.text)]
    elif kind == "count":
        letter = re.search(r"(?:times is|letter) (\w) in", q.text)[1]
        return str(re.search(r"in ((?:\w )+\w)\b", q.text)[1].split().count(letter))
    else:
        word = EDITS[kind](max(words, key=len))
    return " ".join(word)


EDITS = {
    "reverse": lambda w: "".join(reversed(w)),
    "drop-first": lambda w: w.removeprefix(w[0]),
    "drop-last": lambda w: w.removesuffix(w[-1]),
    "drop-ends": lambda w: w.removeprefix(w[0]).removesuffix(w[-1]),
    "swap-ends": lambda w: re.sub(r"^(.)(.*)(.)$", r"\3\2\1", w),
    "first-to-end": lambda w: re.sub(r"^(.)(.*)$", r"\2\1", w),
    "last-to-front": lambda w: re.sub(r"^(.*)(.)$", r"\2\1", w),
    "double-first": lambda w: re.sub(r"^(.)", r"\1\1", w),
    "double-last": lambda w: re.sub(r"(.)$", r"\1\1", w),
    "drop-vowels": lambda w: re.sub(r"[aeiou]", "", w),
    "sort": lambda w: "".join(c * w.count(c) for c in ascii_lowercase),
}


def code(q):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(q.text.split("\n", 1)[1], {})
    return out.getvalue().strip()


def boxes(text):
    return [set(re.split(r", | and ", held)) for held in re.findall(r"Box . holds (.*?)\.", text)]


def among(q, right):
    fit = [c for c in q.choices if c in right]
    assert len(fit) == 1, f"{q.text}: {fit} of {q.choices}"
    return fit[0]


def order(q):
    pairs = re.findall(r"(\w+) is \w+er than (\w+)\.", q.text)
    names = {n for pair in pairs for n in pair}
    fits = [o for o in permutations(names) if all(o.index(a) < o.index(b) for a, b in pairs)]
    assert len(fits) == 1
    return fits[0][{"first": 0, "second": 1, "last": 3}[q.subject.rpartition("-")[2]]]


def syllogism(q):
    """What holds of every kind of thing that the premises allow."""
    given = re.findall(r"(All|No) (\w+) are (\w+)\.", q.text)
    kinds = sorted({k for _, *pair in given for k in pair})

    def holds(thing, quantifier, a, b):
        return not thing[a] or (thing[b] if quantifier == "All" else not thing[b])

    things = [dict(zip(kinds, bits, strict=True)) for bits in product([False, True], repeat=len(kinds))]
    allowed = [t for t in things if all(holds(t, *premise) for premise in given)]
    claims = {c: re.fullmatch(r"(All|No) (\w+) are (\w+)", c).groups() for c in q.choices}
    return among(q, {c for c in q.choices if all(holds(t, *claims[c]) for t in allowed)})


def rules_of_lamps(q):
    links = re.findall(r"If the (\w+) lamp is on, the (\w+) lamp is on", q.text)
    lit = {re.search(r"The (\w+) lamp is on\. Which", q.text)[1]}
    start = set(lit)
    while more := {b for a, b in links if a in lit} - lit:
        lit |= more
    return among(q, lit - start)


def logic(q):
    kind = q.subject.split("/")[1]
    if kind.startswith(("set-", "size-")):
        a, b = boxes(q.text)
        if kind.startswith("size-"):
            return str(len(a | b) if kind == "size-union" else len(a & b))
        return among(q, {"set-both": a & b, "set-only-a": a - b, "set-neither": set(q.choices) - a - b}[kind])
    if kind == "turns":
        state = {what: f"{what} is open" in q.text.split(". ")[1] for what in ("door", "window")}
        for what in re.findall(r"turns the (\w+)", q.text):
            state[what] = not state[what]
        return ", ".join(f"{what} {'open' if is_open else 'shut'}" for what, is_open in state.items())
    if kind == "odd-one":
        of = dict(re.findall(r"The (\w+) is one of the (\w+)\.", q.text))
        return next(t for t, bag in of.items() if list(of.values()).count(bag) == 1)
    if kind == "liar":
        claims = dict(re.findall(r"(\w+) says: it is under the (\w+) cup", q.text))
        name, verb = re.search(r"(\w+) always (lies|tells the truth)\. Under", q.text).groups()
        return next(cup for who, cup in claims.items() if (who == name) == (verb != "lies"))
    return {"syllogism": syllogism, "rules": rules_of_lamps}.get(kind, order)(q)


SOLVERS = {
    "arithmetic": arithmetic,
    "calendar": calendar,
    "units": units,
    "sequences": sequences,
    "strings": strings,
    "code": code,
    "logic": logic,
}


def test_every_reasoning_domain_has_its_solver():
    assert set(SOLVERS) == {name for name, kind in worlds.KINDS.items() if kind == "reasoning"}


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("domain", SOLVERS)
def test_the_solver_agrees(domain, split):
    for q in worlds.questions(split, N, seed=3, domains=[domain]):
        assert SOLVERS[domain](q) == q.choices[q.answer], q


@pytest.mark.parametrize("domain", SOLVERS)
def test_worked_steps_end_in_the_answer(domain):
    closings = r"(?:The answer is|So the answer is|Answer:|That makes) (.*)\."
    for q, statement in zip(
        worlds.questions("train", 300, domains=[domain]), worlds.statements("train", 300, domains=[domain]), strict=True
    ):
        ending = re.search(closings + r"$", statement)
        assert ending, statement
        text = re.split(r"(?<=[?.])\s", statement)
        assert len(text) >= 3, statement
        assert q.domain == domain


@pytest.mark.parametrize("answer", ["b", "bo"])
def test_the_shortest_edit_has_three_wrong_answers_in_every_draw(answer):
    for seed in range(3000):  # eight changed letters alone leave fewer than three about once in a thousand draws
        wrong = wrong_edits(Draw("short", seed), "boe", answer)
        assert len(set(wrong)) == len(wrong) >= 3
        assert answer not in wrong
