"""A generated world of nine domains: questions to ask, text to learn it from. Deterministic, any size, no download.

`people` and `places` are recall: facts that only a statement about that person or place gives away; both splits know
the same facts and differ in wordings and questions. The seven others are reasoning: no problem of the test split is
ever asked or told in the train split, for any seed. Item i of a domain is the same however many are asked for.
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

# How often a domain is dealt a statement: a thousand people need as many tellings as five places and more.
_TELLINGS = {"people": 4, "arithmetic": 2}


def questions(
    split: str,
    n: int,
    seed: int = 0,
    domains: Sequence[str] | None = None,
    *,
    people: int = PEOPLE,
    places: int = PLACES,
) -> Iterator[Question]:
    """`n` four-choice questions in all, dealt in turn to the domains and, within each, to its subjects.

    Args:
        split: "train" or "test".
        n: how many in all.
        seed: which draw of questions; facts and the split of problems are the same for every seed.
        domains: names out of `DOMAINS`; None for all nine.
        people: how many people the world has.
        places: how many places.

    Raises:
        TaskError: an unknown split or domain, a negative `n`, a world too small or too large.
    """
    made = _domains(split, n, domains, people, places)
    dealt = (divmod(i, len(made)) for i in range(n))
    names = list(made)
    return (_question(names[at], made[names[at]], split, seed, number) for number, at in dealt)


def statements(
    split: str,
    n: int,
    seed: int = 0,
    domains: Sequence[str] | None = None,
    *,
    people: int = PEOPLE,
    places: int = PLACES,
) -> Iterator[str]:
    """`n` texts that teach: for recall all facts of one person or place, for reasoning a problem with worked steps.

    Made one at a time. Of every 13, people get 4 and arithmetic 2 (so that facts are told often enough); arguments
    and errors as `questions`.
    """
    made = _domains(split, n, domains, people, places)
    return _tell(made, _split(split), n, seed)


def _tell(made: dict[str, Domain], split: Split, n: int, seed: int) -> Iterator[str]:
    dealt = [name for turn in range(4) for name in made if _TELLINGS.get(name, 1) > turn]
    told = dict.fromkeys(made, 0)
    for i in range(n):
        name = dealt[i % len(dealt)]
        number, told[name] = told[name], told[name] + 1
        yield made[name].tell(split, number, Draw("tell", seed, split, name, number))


def _question(name: str, domain: Domain, split: str, seed: int, number: int) -> Question:
    subject = domain.subjects[number % len(domain.subjects)]
    draw = Draw("ask", seed, split, name, number)
    problem = domain.ask(_split(split), subject, draw)
    options, answer = choices(problem, draw)
    return Question(f"{name}-{split}-{seed}-{number}", f"{name}/{subject}", name, problem.text, options, answer)


def _domains(split: str, n: int, wanted: Sequence[str] | None, n_people: int, n_places: int) -> dict[str, Domain]:
    _split(split)
    if n < 0:
        raise TaskError("worlds", expected="a number of items that is not negative", received=n)
    unknown = [name for name in wanted or () if name not in DOMAINS]
    if unknown or (wanted is not None and not wanted):
        raise TaskError(
            "worlds", expected=f"domains out of {', '.join(DOMAINS)}", received=", ".join(unknown) or "none"
        )
    facts = world(n_people, n_places)
    made = {"people": people(facts), "places": places(facts), **_REASONING}
    return {name: made[name] for name in dict.fromkeys(wanted or DOMAINS)}


def _split(name: str) -> Split:
    if name == "train":
        return "train"
    if name == "test":
        return "test"
    raise TaskError("worlds", expected="the split train or test", received=name)
