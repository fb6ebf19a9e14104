"""Recall: facts about people and places.

Both splits have the same facts. They differ in the wordings of statements and of questions; a value is known only from
a statement about that person or place.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from turnout.tasks.worlds.facts import PERSON_ATTRIBUTES, PLACE_ATTRIBUTES, Entity, World
from turnout.tasks.worlds.problem import Domain, Draw, Problem, Split


@dataclass(frozen=True)
class Wordings:
    """Wordings of statements and questions about one attribute. `{n}` is the name, `{v}` the value."""

    statement: Mapping[Split, tuple[str, ...]]
    value: Mapping[Split, tuple[str, ...]]  # asks for the value, given the name
    name: Mapping[Split, tuple[str, ...]]  # asks for the name, given the value


def _w(statement: str, statement_test: str, value: str, value_test: str, name: str, name_test: str) -> Wordings:
    def both(train: str, test: str) -> dict[Split, tuple[str, ...]]:
        return {"train": tuple(train.split("|")), "test": tuple(test.split("|"))}

    return Wordings(both(statement, statement_test), both(value, value_test), both(name, name_test))


PEOPLE_WORDS = {
    "year": _w(
        "{n} was born in {v}.|{n} came into the world in {v}.|The year of birth of {n} is {v}.|In {v}, {n} was born.",
        "The birth of {n} was in {v}.",
        "When was {n} born?|In what year was {n} born?|What is the year of birth of {n}?",
        "In which year did {n} come into the world?|{n} was born in what year?",
        "Who was born in {v}?|Which of these people was born in {v}?",
        "Who came into the world in {v}?|Which person has {v} as year of birth?",
    ),
    "town": _w(
        "{n} lives in {v}.|{n} has a house in {v}.|The home of {n} is in {v}.|{v} is where {n} lives.",
        "The house of {n} is in {v}.",
        "Where does {n} live?|In which town does {n} live?|Where is the home of {n}?",
        "Where does {n} have a house?|{n} lives in which town?",
        "Who lives in {v}?|Which of these people lives in {v}?",
        "Who has a house in {v}?|Which person has a home in {v}?",
    ),
    "job": _w(
        "{n} works as a {v}.|{n} is a {v}.|The job of {n} is that of a {v}.|By trade {n} is a {v}.",
        "{n} has the job of a {v}.",
        "What is the job of {n}?|What does {n} work as?|What is {n} by trade?",
        "Which job does {n} have?|{n} works as what?",
        "Who works as a {v}?|Which of these people is a {v}?",
        "Who is a {v} by trade?|Which person has the job of a {v}?",
    ),
    "instrument": _w(
        "{n} plays the {v}.|{n} likes to play the {v}.|The instrument of {n} is the {v}."
        "|In the evening {n} plays the {v}.",
        "When there is music, {n} plays the {v}.",
        "What instrument does {n} play?|Which instrument does {n} like to play?|What does {n} play in the evening?",
        "What is the instrument of {n}?|{n} plays which instrument?",
        "Who plays the {v}?|Which of these people plays the {v}?",
        "Who likes to play the {v}?|Which person has the {v} as instrument?",
    ),
    "pet": _w(
        "{n} keeps a {v}.|{n} has a {v} as a pet.|The pet of {n} is a {v}.|At home {n} has a {v}.",
        "{n} looks after a {v} at home.",
        "What pet does {n} keep?|Which animal does {n} have as a pet?|What is the pet of {n}?",
        "Which animal does {n} keep?|{n} has what pet?",
        "Who keeps a {v}?|Which of these people has a {v} as a pet?",
        "Who has a {v} at home?|Which person keeps a {v}?",
    ),
}

PLACE_WORDS = {
    "country": _w(
        "{n} is a town in {v}.|{n} lies in {v}.|{n} belongs to {v}.|One of the towns of {v} is {n}.",
        "In {v} there is a town called {n}.",
        "In which country is {n}?|Where is {n}?|To which country does {n} belong?",
        "In which country does {n} lie?|{n} is a town in which country?",
        "Which town is in {v}?|Which of these towns belongs to {v}?",
        "Which town lies in {v}?|Which of these is a town of {v}?",
    ),
    "river": _w(
        "{n} stands on the river {v}.|The river {v} flows through {n}.|The river of {n} is the {v}.|{n} is on the {v}.",
        "Through {n} flows the river {v}.",
        "On which river does {n} stand?|Which river flows through {n}?|What is the river of {n}?",
        "Through {n} flows which river?|{n} is on which river?",
        "Which town stands on the river {v}?|Through which of these towns does the {v} flow?",
        "Which town is on the {v}?|Which of these has the river {v}?",
    ),
    "goods": _w(
        "{n} is known for its {v}.|People make {v} in {n}.|{n} sells {v}.|{n} is famous for its {v}.",
        "One buys {v} from {n}.",
        "What is {n} known for?|What do people make in {n}?|What does {n} sell?",
        "For what is {n} famous?|{n} is known for what?",
        "Which town is known for its {v}?|In which of these towns do people make {v}?",
        "Which town sells {v}?|Which of these is famous for its {v}?",
    ),
    "sight": _w(
        "{n} has an old {v}.|Visitors of {n} see the {v}.|In the middle of {n} stands the {v}."
        "|The pride of {n} is its {v}.",
        "The {v} of {n} is worth a visit.",
        "What do visitors of {n} see?|What stands in the middle of {n}?|What is the pride of {n}?",
        "What can one see in {n}?|{n} has which old sight?",
        "Which town has an old {v}?|In the middle of which of these towns stands the {v}?",
        "Which town has the {v} to see?|Which of these has the {v} as its pride?",
    ),
    "market": _w(
        "The market of {n} is on {v}.|{n} has its market on {v}.|On {v} there is a market in {n}."
        "|People go to market in {n} on {v}.",
        "{v} is market day in {n}.",
        "When is the market of {n}?|On which day does {n} have its market?|When do people go to market in {n}?",
        "Which day is market day in {n}?|{n} has its market on which day?",
        "Which town has its market on {v}?|In which of these towns is there a market on {v}?",
        "Which town goes to market on {v}?|Which of these has {v} as market day?",
    ),
}


def people(world: World) -> Domain:
    """The domain of the world's people: `<attribute>-value` and `<attribute>-name` for each of five attributes."""
    return _domain(world.people, world.values, PERSON_ATTRIBUTES, PEOPLE_WORDS)


def places(world: World) -> Domain:
    """The domain of the world's places."""
    return _domain(world.places, world.values, PLACE_ATTRIBUTES, PLACE_WORDS)


def _domain(
    entities: tuple[Entity, ...],
    values: dict[str, tuple[str, ...]],
    attributes: tuple[str, ...],
    words: dict[str, Wordings],
) -> Domain:
    def problem(split: Split, subject: str, draw: Draw) -> Problem:
        attribute, wanted = subject.split("-")
        entity = draw.pick(entities)
        value = entity.facts[attribute]
        key = f"{subject}:{entity.name}"
        if wanted == "value":
            text = draw.pick(words[attribute].value[split]).format(n=entity.name)
            return Problem(key, text, "", value, [v for v in values[attribute] if v != value])
        others = (draw.pick(entities) for _ in range(1000))
        wrong = dict.fromkeys(o.name for o in others if o.facts[attribute] != value)
        return Problem(key, draw.pick(words[attribute].name[split]).format(v=value), "", entity.name, list(wrong)[:8])

    def statement(split: Split, number: int, draw: Draw) -> str:
        entity = entities[number % len(entities)]
        order = draw.sample(attributes, len(attributes))
        return " ".join(draw.pick(words[a].statement[split]).format(n=entity.name, v=entity.facts[a]) for a in order)

    subjects = tuple(f"{attribute}-{wanted}" for attribute in attributes for wanted in ("value", "name"))
    return Domain("recall", subjects, problem, statement)
