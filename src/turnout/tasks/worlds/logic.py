"""Reasoning: sets, orders, rules and liars."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from turnout.tasks.worlds.facts import FIRST_NAMES
from turnout.tasks.worlds.problem import Domain, Draw, Problem, near, reasoning

_THINGS = ("apple", "bell", "book", "coin", "cup", "drum", "egg", "fork", "hat", "key", "lamp", "nail", "pen", "ring")
_KINDS = ("bolps", "drims", "fents", "glips", "hools", "jarks", "lirps", "mands", "norts", "plins", "queps", "tozes")
_ORDERS = (("taller", "tallest", "shortest"), ("older", "oldest", "youngest"), ("faster", "fastest", "slowest"))


def _listed(items: Sequence[str]) -> str:
    return f"{', '.join(items[:-1])} and {items[-1]}" if len(items) > 1 else items[0]


def _two_sets(draw: Draw, shared: int) -> tuple[list[str], list[str], list[str], list[str]]:
    """Set A, set B, their intersection of `shared` things, and the things of A alone."""
    left, right = draw.between(1, 3), draw.between(1, 3)
    things = draw.sample(_THINGS, shared + left + right)
    both, only_a, only_b = things[:shared], things[shared : shared + left], things[shared + left :]
    return draw.sample(both + only_a, shared + left), draw.sample(both + only_b, shared + right), both, only_a


def _given(a: Sequence[str], b: Sequence[str]) -> str:
    return f"Box A holds {_listed(a)}. Box B holds {_listed(b)}."


def _member(draw: Draw, wanted: str) -> Problem:
    """A thing in both boxes, only in A, or in neither."""
    a, b, both, _ = _two_sets(draw, 1)
    only_a = [t for t in a if t not in b]
    neither = [t for t in _THINGS if t not in a + b]
    one_sided = [t for t in a + b if t not in both]
    ask, answers, wrong = {
        "both": ("Which thing is in both boxes?", both, one_sided + neither[:1]),
        "only-a": ("Which thing is in box A but not in box B?", only_a, b + draw.sample(neither, 2)),
        "neither": ("Which thing is in neither box?", neither, a + b),
    }[wanted]
    answer = draw.pick(answers)
    where = {"both": "in A and in B", "only-a": "in A and not in B", "neither": "not in A and not in B"}[wanted]
    key = f"{wanted}:{','.join(sorted(a))}|{','.join(sorted(b))}"
    return Problem(key, f"{_given(a, b)} {ask}", f"The {answer} is {where}.", answer, wrong)


def _size(draw: Draw, wanted: str) -> Problem:
    """The number of things in the union or the intersection of the boxes."""
    a, b, both, _ = _two_sets(draw, draw.between(1, 3))
    total = len(a) + len(b) - len(both)
    ask, answer, steps = {
        "union": (
            "How many different things are in the boxes?",
            total,
            f"{len(a)} + {len(b)} - {len(both)} = {total}.",
        ),
        "intersection": ("How many things are in both boxes?", len(both), f"In both: {_listed(both)}."),
    }[wanted]
    key = f"{wanted}:{','.join(sorted(a))}|{','.join(sorted(b))}"
    return Problem(key, f"{_given(a, b)} {ask}", steps, str(answer), near(draw, answer))


def _order(draw: Draw, wanted: int) -> Problem:
    """The first, last or second of four, from three comparisons in any order."""
    more, first, last = draw.pick(_ORDERS)
    names = draw.sample(FIRST_NAMES, 4)
    pairs = draw.sample([f"{x} is {more} than {y}." for x, y in pairwise(names)], 3)
    ask = {0: f"Who is the {first}?", 3: f"Who is the {last}?", 1: f"Who is second, after the {first}?"}[wanted]
    steps = f"From the {first} to the {last}: {', '.join(names)}."
    return Problem(f"{more}:{','.join(names)}:{wanted}", f"{' '.join(pairs)} {ask}", steps, names[wanted], names)


def _chain(draw: Draw) -> Problem:
    """All a are b, all b are c, so all a are c."""
    *kinds, other = draw.sample(_KINDS, 4)
    a, b, c = kinds
    given = draw.sample([f"All {a} are {b}.", f"All {b} are {c}.", f"No {c} are {other}."], 3)
    answer, steps = draw.pick(
        (
            (f"All {a} are {c}.", f"All {a} are {b}, and all {b} are {c}."),
            (f"No {a} are {other}.", f"All {a} are {c}, and no {c} are {other}."),
            (f"No {b} are {other}.", f"All {b} are {c}, and no {c} are {other}."),
        )
    )
    wrong = [
        f"All {c} are {a}.",
        f"All {a} are {other}.",
        f"No {a} are {c}.",
        f"All {other} are {b}.",
        f"All {c} are {b}.",
    ]
    key = f"chain:{a},{b},{c},{other}"  # the premises: all questions about them are one problem
    return Problem(key, f"{' '.join(given)} What follows?", steps, answer.rstrip("."), [w.rstrip(".") for w in wrong])


def _rules(draw: Draw) -> Problem:
    """Rules from lamp to lamp: which lamp is on for certain."""
    lamps = draw.sample(("red", "blue", "green", "white", "black", "brown", "pink", "grey"), 5)
    depth = draw.between(1, 3)
    links = [(lamps[i], lamps[i + 1]) for i in range(depth)] + [(lamps[4], lamps[0])]
    given = draw.sample([f"If the {x} lamp is on, the {y} lamp is on." for x, y in links], len(links))
    off = [
        lamp
        for lamp in ("red", "blue", "green", "white", "black", "brown", "pink", "grey")
        if lamp not in lamps[: depth + 1]
    ]
    answer = lamps[depth]
    text = f"{' '.join(given)} The {lamps[0]} lamp is on. Which other lamp is on for sure?"
    steps = "So " + ", so ".join(f"{lamp} is on" for lamp in lamps[1 : depth + 1]) + "."
    chain = ",".join([*lamps[: depth + 1], lamps[4]])
    return Problem(f"lamps:{chain}", text, steps, answer, off)


def _turns(draw: Draw) -> Problem:
    """A door and a window, each opened or shut by turns: their final states."""
    states = {"door": draw.below(2), "window": draw.below(2)}
    names = draw.sample(FIRST_NAMES, 2)
    turns = [(draw.pick(names), draw.pick(("door", "window"))) for _ in range(draw.between(1, 5))]
    given = f"The door is {_open(states['door'])} and the window is {_open(states['window'])}."
    for _, what in turns:
        states[what] = 1 - states[what]
    doors = sum(what == "door" for _, what in turns)
    turns_text = " ".join(f"{name} turns the {what}." for name, what in turns)
    text = f"Each turn opens what is shut and shuts what is open. {given} {turns_text} How are they now?"
    steps = f"The door is turned {doors} times, the window {len(turns) - doors} times."
    ways = [f"door {_open(door)}, window {_open(window)}" for door in (0, 1) for window in (0, 1)]
    answer = f"door {_open(states['door'])}, window {_open(states['window'])}"
    key = f"turns:{given}{sorted(turns)}"  # their order does not matter
    return Problem(key, text, steps, answer, ways)


def _open(state: int) -> str:
    return "open" if state else "shut"


def _odd_one(draw: Draw) -> Problem:
    """Three things of one kind and one of another: which does not belong."""
    inside, outside = draw.sample(_THINGS, 3), None
    outside = draw.pick([t for t in _THINGS if t not in inside])
    shown = draw.sample([*inside, outside], 4)
    bags = draw.sample(_KINDS, 2)
    given = " ".join(f"The {t} is one of the {bags[0] if t != outside else bags[1]}." for t in shown)
    steps = f"The {outside} is one of the {bags[1]} and the others are {bags[0]}."
    key = f"odd:{','.join(sorted(inside))}:{outside}:{','.join(bags)}"
    return Problem(key, f"{given} Which does not belong with the others?", steps, outside, shown)


def _liars(draw: Draw) -> Problem:
    """Two statements about a coin, one of them a lie: where the coin is."""
    names, cups = draw.sample(FIRST_NAMES, 2), ["left", "middle", "right", "back"]
    true_cup = draw.pick(cups)
    false_cup = draw.sample([c for c in cups if c != true_cup], 1)[0]
    honest, liar = names
    lines = draw.sample(
        [f"{honest} says: it is under the {true_cup} cup.", f"{liar} says: it is under the {false_cup} cup."], 2
    )
    hint = draw.pick((f"{honest} always tells the truth.", f"{liar} always lies."))
    both = f"One of {_listed(sorted(names))} always lies and one always tells the truth."
    text = f"{both} {' '.join(lines)} {hint} Under which cup is the coin?"
    steps = f"{liar} lies and {honest} does not, so it is under the {true_cup} cup."
    return Problem(f"liar:{honest},{liar},{true_cup},{false_cup}", text, steps, true_cup, cups)


def _with(make: Callable[..., Problem], wanted: object) -> Callable[[Draw], Problem]:
    return lambda draw: make(draw, wanted)


LOGIC: Domain = reasoning(
    "logic",
    {f"set-{w}": _with(_member, w) for w in ("both", "only-a", "neither")}
    | {f"size-{w}": _with(_size, w) for w in ("union", "intersection")}
    | {f"order-{name}": _with(_order, w) for name, w in (("first", 0), ("second", 1), ("last", 3))}
    | {"syllogism": _chain, "rules": _rules, "turns": _turns, "odd-one": _odd_one, "liar": _liars},
)
