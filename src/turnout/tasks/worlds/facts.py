"""Invented people and places with their facts, the same for every seed and every split.

Person 7 has the same name and facts in a world of any size, except for the home town, which is one of the world's
places.
"""

from dataclasses import dataclass
from functools import lru_cache

from turnout.errors import TaskError
from turnout.tasks.worlds.problem import Draw

_ONSETS = ("Ba", "Ce", "Do", "Fi", "Ga", "He", "Ja", "Ko", "Lu", "Ma", "Ne", "Pi", "Ro", "Sa", "Te", "Vi")
_FIRST_ENDS = ("ra", "lin")
_LAST_STARTS: tuple[str, ...] = (
    *_ONSETS,
    "Bru",
    "Cla",
    "Dra",
    "Fro",
    "Gre",
    "Kli",
    "Pla",
    "Sto",
    "Tri",
    "Wa",
    "Zo",
    "Qui",
    "Ny",
    "Ola",
)
_LAST_STARTS += ("Eri", "Ami")
_LAST_ENDS: tuple[str, ...] = (
    "bel",
    "cott",
    "den",
    "fell",
    "gar",
    "hart",
    "kins",
    "low",
    "man",
    "nard",
    "per",
    "ris",
    "son",
    "tan",
)
_LAST_ENDS += ("vick", "well", "dale", "berg", "chuk", "dini", "ford", "gren", "holm", "lov", "mont", "noff", "quist")
_LAST_ENDS += ("rup", "sky", "tov", "vale", "zar")
_PLACE_ENDS: tuple[str, ...] = (
    "bury",
    "caster",
    "ford",
    "gate",
    "ham",
    "haven",
    "hill",
    "lake",
    "mere",
    "mouth",
    "port",
    "stead",
)
_PLACE_ENDS += ("ton", "ville", "wick", "worth")

FIRST_NAMES = tuple(onset + end for onset in _ONSETS for end in _FIRST_ENDS)
LAST_NAMES = tuple(start + end for start in _LAST_STARTS for end in _LAST_ENDS)
PLACE_NAMES = tuple(start + end for start in _LAST_STARTS for end in _PLACE_ENDS)
MAX_PEOPLE = len(FIRST_NAMES) * len(LAST_NAMES)
MAX_PLACES = len(PLACE_NAMES)

YEARS = tuple(str(year) for year in range(1960, 2000))
JOBS: tuple[str, ...] = (
    "baker",
    "barber",
    "builder",
    "butcher",
    "carpenter",
    "cook",
    "dentist",
    "doctor",
    "driver",
    "farmer",
)
JOBS += ("fisher", "gardener", "guard", "judge", "lawyer", "miner", "nurse", "painter", "pilot", "plumber")
JOBS += ("sailor", "singer", "tailor", "teacher")
INSTRUMENTS: tuple[str, ...] = (
    "banjo",
    "bugle",
    "cello",
    "clarinet",
    "cornet",
    "drum",
    "fiddle",
    "flute",
    "guitar",
    "harp",
)
INSTRUMENTS += ("horn", "lute", "organ", "piano", "trumpet", "whistle")
PETS: tuple[str, ...] = (
    "cat",
    "crow",
    "dog",
    "donkey",
    "duck",
    "ferret",
    "frog",
    "goat",
    "goose",
    "hamster",
    "horse",
    "lizard",
)
PETS += ("mouse", "parrot", "rabbit", "turtle")
COUNTRIES: tuple[str, ...] = (
    "Arland",
    "Belmark",
    "Corvia",
    "Dunmar",
    "Estoria",
    "Farsund",
    "Gallia",
    "Hestia",
    "Ivria",
    "Jorvia",
)
COUNTRIES += ("Kelland", "Lormark")
RIVERS: tuple[str, ...] = (
    "Alder",
    "Brenn",
    "Cald",
    "Dove",
    "Elm",
    "Fenn",
    "Glass",
    "Hart",
    "Isk",
    "Jade",
    "Kenn",
    "Lark",
)
RIVERS += ("Moss", "Nith", "Oren", "Pike", "Quill", "Reed", "Swale", "Teal")
GOODS: tuple[str, ...] = (
    "apples",
    "bells",
    "boats",
    "bread",
    "bricks",
    "butter",
    "candles",
    "carpets",
    "cheese",
    "clocks",
    "coal",
)
GOODS += ("glass", "honey", "iron", "lace", "paper", "pepper", "roses", "salt", "shoes", "silk", "soap", "tea", "wool")
SIGHTS: tuple[str, ...] = (
    "abbey",
    "aqueduct",
    "arena",
    "castle",
    "cathedral",
    "cave",
    "fountain",
    "garden",
    "lighthouse",
    "market hall",
)
SIGHTS += ("museum", "palace", "stone bridge", "theatre", "tower", "windmill")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True)
class Entity:
    """A person or a place: a name and one value for each attribute."""

    name: str
    facts: dict[str, str]


@dataclass(frozen=True)
class World:
    """All people and places. `values[attribute]` are the possible values of an attribute, without repeats."""

    people: tuple[Entity, ...]
    places: tuple[Entity, ...]
    values: dict[str, tuple[str, ...]]


@lru_cache(maxsize=8)
def world(people: int, places: int) -> World:
    """The world with these numbers of people and places.

    Raises:
        TaskError: fewer than 100 people or 50 places, or more than there are names.
    """
    for what, n, low, high in (("people", people, 100, MAX_PEOPLE), ("places", places, 50, MAX_PLACES)):
        if not low <= n <= high:
            raise TaskError(f"worlds: {what}", expected=f"{low} to {high}", received=n)
    towns = tuple(_place_name(i) for i in range(places))
    values = {"town": towns, "year": YEARS, "job": JOBS, "instrument": INSTRUMENTS, "pet": PETS}
    values |= {"country": COUNTRIES, "river": RIVERS, "goods": GOODS, "sight": SIGHTS, "market": DAYS}
    return World(
        tuple(Entity(_person_name(i), _facts("person", i, PERSON_ATTRIBUTES, values)) for i in range(people)),
        tuple(Entity(towns[i], _facts("place", i, PLACE_ATTRIBUTES, values)) for i in range(places)),
        values,
    )


PERSON_ATTRIBUTES = ("year", "town", "job", "instrument", "pet")
PLACE_ATTRIBUTES = ("country", "river", "goods", "sight", "market")


def _facts(kind: str, i: int, attributes: tuple[str, ...], values: dict[str, tuple[str, ...]]) -> dict[str, str]:
    return {name: Draw(kind, i, name).pick(values[name]) for name in attributes}


def _person_name(i: int) -> str:
    """A unique name: last names are used up first, then repeat with another first name."""
    generation, last = divmod(i, len(LAST_NAMES))
    last = (last * 389 + 57) % len(LAST_NAMES)  # 389 is prime to 1024: every last name once
    first = (Draw("first name", last).below(len(FIRST_NAMES)) + 5 * generation) % len(FIRST_NAMES)
    return f"{FIRST_NAMES[first]} {LAST_NAMES[last]}"


def _place_name(i: int) -> str:
    return PLACE_NAMES[(i * 205 + 31) % len(PLACE_NAMES)]  # 205 is prime to 512: every name once
