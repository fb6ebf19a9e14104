"""A generated world of nine domains: questions and training text. Deterministic, of any size, without download.

`people` and `places` are recall: a fact is known only from a statement about that person or place; both splits have the
same facts and differ in wordings and questions. The seven others are reasoning: no problem of the test split occurs in
questions or statements of the train split, for any seed. Item i of a domain does not depend on the number of items.
"""

from collections.abc import Iterator, Sequence

from turnout.errors import TaskError
from turnout.tasks.question import Question
from turnout.tasks.worlds.arithmetic import ARITHMETIC
from turnout.tasks.worlds.dates import DATES
from turnout.tasks.worlds.facts import world
from turnout.tasks.worlds.logic import LOGIC
from turnout.tasks.worlds.problem import Domain, Draw, Kind, Split, choices
from turnout.tasks.worlds.recall import people, places
from turnout.tasks.worlds.sequences import SEQUENCES
from turnout.tasks.worlds.strings import STRINGS
from turnout.tasks.worlds.tracing import TRACING
from turnout.tasks.worlds.units import MEASURES

KINDS: dict[str, Kind] = {"people": "recall", "places": "recall"}
_REASONING = {
    "arithmetic": ARITHMETIC,
    "calendar": DATES,
    "units": MEASURES,
    "sequences": SEQUENCES,
    "strings": STRINGS,
    "code": TRACING,
    "logic": LOGIC,
}
KINDS |= {name: domain.kind for name, domain in _REASONING.items()}
DOMAINS = tuple(KINDS)
PEOPLE, PLACES = 1000, 200

# Statements of a domain in each round of 13: a thousand people need more repetitions than two hundred places.
_STATEMENTS = {"people": 4, "arithmetic": 2}


def questions(
    split: str,
    n: int,
    seed: int = 0,
    domains: Sequence[str] | None = None,
    *,
    people: int = PEOPLE,
    places: int = PLACES,
) -> Iterator[Question]:
    """`n` four-choice questions, from the domains in rotation and from each domain's subjects in rotation.

    Args:
        split: "train" or "test".
        n: number of questions.
        seed: seed of the questions; facts and the split of problems are the same for every seed.
        domains: names from `DOMAINS`; None for all nine.
        people: number of people in the world.
        places: number of places.

    Raises:
        TaskError: an unknown split or domain, a negative `n`, a world too small or too large.
    """
    by_name = _domains(split, n, domains, people, places)
    turns = (divmod(i, len(by_name)) for i in range(n))
    names = list(by_name)
    return (_question(names[at], by_name[names[at]], split, seed, number) for number, at in turns)


def statements(
    split: str,
    n: int,
    seed: int = 0,
    domains: Sequence[str] | None = None,
    *,
    people: int = PEOPLE,
    places: int = PLACES,
) -> Iterator[str]:
    """`n` training texts: for recall all facts of one person or place, for reasoning a problem with worked steps.

    Generated one at a time. Of every 13, 4 are about people and 2 arithmetic, so that facts are repeated often enough;
    arguments and errors as `questions`.
    """
    return _statements(_domains(split, n, domains, people, places), _split(split), n, seed)


def _statements(by_name: dict[str, Domain], split: Split, n: int, seed: int) -> Iterator[str]:
    names = [name for turn in range(4) for name in by_name if _STATEMENTS.get(name, 1) > turn]
    counts = dict.fromkeys(by_name, 0)
    for i in range(n):
        name = names[i % len(names)]
        number, counts[name] = counts[name], counts[name] + 1
        yield by_name[name].statement(split, number, Draw("tell", seed, split, name, number))


def _question(name: str, domain: Domain, split: str, seed: int, number: int) -> Question:
    subject = domain.subjects[number % len(domain.subjects)]
    draw = Draw("ask", seed, split, name, number)
    problem = domain.problem(_split(split), subject, draw)
    options, answer = choices(problem, draw)
    return Question(f"{name}-{split}-{seed}-{number}", f"{name}/{subject}", name, problem.text, options, answer)


def _domains(split: str, n: int, wanted: Sequence[str] | None, n_people: int, n_places: int) -> dict[str, Domain]:
    _split(split)
    if n < 0:
        raise TaskError("worlds", expected="a number of items of at least 0", received=n)
    unknown = [name for name in wanted or () if name not in DOMAINS]
    if unknown or (wanted is not None and not wanted):
        raise TaskError("worlds", expected=f"domains from {', '.join(DOMAINS)}", received=", ".join(unknown) or "none")
    facts = world(n_people, n_places)
    by_name = {"people": people(facts), "places": places(facts), **_REASONING}
    return {name: by_name[name] for name in dict.fromkeys(wanted or DOMAINS)}


def _split(name: str) -> Split:
    if name == "train":
        return "train"
    if name == "test":
        return "test"
    raise TaskError("worlds", expected="the split train or test", received=name)
