"""One row of a source, checked field by field, with an error that names the row."""

from collections.abc import Mapping
from dataclasses import dataclass
from string import ascii_uppercase

from turnout.errors import TaskError
from turnout.tasks.prompts import MAX_CHOICES


@dataclass(frozen=True)
class Row:
    """A row of a source: `where` as an error names it, and its raw fields."""

    where: str
    fields: Mapping[str, object]


@dataclass(frozen=True)
class Draft:
    """A checked row without an assigned domain."""

    where: str
    id: str
    subject: str | None
    domain: str | None
    text: str
    choices: tuple[str, ...]
    answer: int | None


def check(row: Row, position: int) -> Draft:
    """Check a row; its id is its `position` (from 0) where it has none. Absent and null are the same.

    A row with `question` and `choices` is a question, whatever else it has; otherwise it is a text row with `text`, and
    its answer is ignored. Other columns are ignored.

    Raises:
        TaskError: names the row, what was expected and what was received.
    """
    choices, answer = _choices(row), None
    if choices:
        text = _string(row, "question")
        answer = _answer(row, len(choices))
    else:
        text = _string(row, "text")
    if not text or not text.strip():
        field = "question" if choices else "text"
        raise TaskError(
            row.where, expected=f"a {field} that is not empty", received="an empty one" if text else f"no {field}"
        )
    return Draft(row.where, _id(row, position), _name(row, "subject"), _name(row, "domain"), text, choices, answer)


def _string(row: Row, field: str) -> str | None:
    value = row.fields.get(field)
    if value is None:
        return None
    return _text(row.where, field, value)


def _text(where: str, field: str, value: object) -> str:
    if not isinstance(value, str):
        raise TaskError(where, expected=f"{field} to be text", received=_kind(value))
    try:
        value.encode()
    except UnicodeEncodeError as e:
        raise TaskError(where, expected=f"{field} in Unicode", received=f"half a character, {value[e.start]!r}") from e
    return value


def _name(row: Row, field: str) -> str | None:
    name = _string(row, field)
    if name is not None and not name.strip():
        raise TaskError(row.where, expected=f"a {field} that is not empty", received="an empty one")
    return name


def _id(row: Row, position: int) -> str:
    value = row.fields.get("id")
    if value is None:
        return str(position)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(row.where, "id", value)


def _choices(row: Row) -> tuple[str, ...]:
    value = row.fields.get("choices")
    if value is None:
        if row.fields.get("text") is None:
            received = "a question without choices" if row.fields.get("question") is not None else "neither"
            raise TaskError(row.where, expected="question and choices, or text", received=received)
        return ()
    if row.fields.get("question") is None and row.fields.get("text") is not None and not value:
        return ()
    if not isinstance(value, list | tuple):
        raise TaskError(row.where, expected="choices to be a list of texts", received=_kind(value))
    if not 2 <= len(value) <= MAX_CHOICES:
        raise TaskError(row.where, expected=f"2 to {MAX_CHOICES} choices", received=len(value))
    return tuple(_text(row.where, f"choice {letter}", c) for letter, c in zip(ascii_uppercase, value, strict=False))


def _answer(row: Row, n: int) -> int | None:
    value = row.fields.get("answer")
    last = ascii_uppercase[n - 1]
    if isinstance(value, str):
        letter = value.strip().upper()
        if len(letter) != 1 or letter not in ascii_uppercase[:n]:
            raise TaskError(row.where, expected=f"an answer letter from A to {last}", received=repr(value))
        return ascii_uppercase.index(letter)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():  # a column of integers with nulls is often stored as floats
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < n:
        received = value if isinstance(value, int | float) else _kind(value)
        raise TaskError(row.where, expected=f"an answer from 0 to {n - 1}, or A to {last}", received=received)
    return value


def _kind(value: object) -> str:
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return kinds.get(type(value), type(value).__name__)
