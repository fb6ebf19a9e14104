"""The samples of an import: what is said of each, matched to its experts and checked.

Shape suffixes: T tokens of one sample, L MoE layers, K experts chosen per token.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnout.errors import RecipeError, RunError
from turnout.exchange.config import ImportConfig
from turnout.exchange.routed_files import Routed, read_records, read_routed
from turnout.exchange.routed_rows import check_experts
from turnout.runs import Sample, TraceLayer
from turnout.runs.layout import UNKNOWN_TOKEN
from turnout.tasks.domains import DomainMap, load_map

_DEFAULT_MAP, _UNNAMED = "mmlu-9", "all"
_MOST_CHOICES = 26


@dataclass(frozen=True, eq=False)
class Checked:
    """One sample as it goes into the trace: what is known of it, its experts, and whether a token id was left out."""

    sample: Sample
    experts_TLK: NDArray[Any]
    left_out: int


@dataclass(frozen=True)
class Form:
    """The layers to keep, and where they stand among the `width` layers of the arrays."""

    layers: tuple[TraceLayer, ...]
    places: list[int]
    width: int


def read_form(file: Path, config: ImportConfig) -> Form:
    """The form of the file's first sample, which all must have."""
    first = next(iter(read_routed(file, config.shape)), None)
    if first is None:
        raise RunError(file, expected="at least one sample", received="none")
    if first.experts.ndim != 3 or 0 in first.experts.shape:
        raise RunError(first.where, expected="experts as [tokens, layers, K]", received=list(first.experts.shape))
    width, k = first.experts.shape[1:]
    if k > config.experts:
        raise RecipeError("experts", expected=f"at least {k}, which a token chooses", received=config.experts)
    numbers = tuple(range(width)) if config.layers is None else config.layers
    if len(numbers) > width or (len(numbers) < width and numbers[-1] >= width):
        expected = f"a number for each of {width} layers, or fewer of 0 to {width - 1}"
        raise RecipeError("layers", expected=expected, received=list(numbers))
    layers = tuple(TraceLayer(number, config.experts, k, config.shared, scored=False) for number in numbers)
    return Form(layers, list(range(width)) if len(numbers) == width else list(numbers), width)


def join(file: Path, beside: Path | None, config: ImportConfig) -> Iterator[tuple[Routed, Mapping[str, Any]]]:
    """Each sample of `file` with all that is said of it."""
    routed = read_routed(file, config.shape)
    if beside is None:
        yield from ((one, one.fields) for one in routed)
        return
    records = list(read_records(beside))
    by_id: dict[str, Mapping[str, Any]] = {}
    for where, record in records:
        if record.get("id") is not None and by_id.setdefault(str(record["id"]), record) is not record:
            raise RunError(where, expected="an id of its own", received=repr(record["id"]))
    n_samples = 0
    for one in routed:
        name = one.fields.get("id")
        if name is None or len(by_id) < len(records):
            own: Mapping[str, Any] | None = records[n_samples][1] if n_samples < len(records) else None
        else:
            own = by_id.get(str(name))
        if own is None:
            raise RunError(one.where, expected=f"a row of its own in {beside}", received="none")
        yield one, {**one.fields, **own}
        n_samples += 1
    if n_samples < len(records):
        raise RunError(beside, expected=f"{n_samples} rows, as many as samples", received=len(records))


class Placing:
    """Gives samples their subject and domain: by the map that was asked for, else as they say, else by mmlu-9."""

    def __init__(self, asked: str | Path | None) -> None:
        self._asked = asked is not None
        self._map: DomainMap = load_map(_DEFAULT_MAP if asked is None else asked)
        self._used: set[str] = set()

    @property
    def name(self) -> str:
        """The map's name; "file" where the samples named their domains; both where some did."""
        return "+".join(sorted(self._used, key=lambda used: used != "file"))

    @property
    def domains(self) -> tuple[str, ...]:
        """The map's domains in order, if it was used."""
        return self._map.domains if self._map.name in self._used else ()

    def __call__(self, subject: str | None, domain: str | None, where: str) -> tuple[str, str]:
        """A sample's subject and domain."""
        if self._asked or (domain is None and subject is not None):
            if subject is None:
                raise RunError(where, expected="a subject, to place it by the domain map", received="none")
            self._used.add(self._map.name)
            return subject, self._map.place(subject, where)
        self._used.add("file")
        return subject or domain or _UNNAMED, domain or _UNNAMED


def check_sample(
    index: int, one: Routed, said: Mapping[str, Any], form: Form, placing: Placing, prompt_only: bool
) -> Checked:
    """One sample, its layers picked, cut to its prompt where that is asked for."""
    experts, where = one.experts, one.where
    if experts.ndim != 3 or experts.shape[1] != form.width:
        raise RunError(where, expected=f"[tokens, {form.width} layers, K], as the first", received=list(experts.shape))
    tokens = _token_ids(said.get("tokens"), where)
    if tokens is not None and len(tokens) not in (len(experts), len(experts) + 1):
        expected = f"{len(experts)} token ids, one for each row, or the answer's last beside them"
        raise RunError(where, expected=expected, received=len(tokens))
    left_out = int(tokens is not None and len(tokens) > len(experts))
    if prompt_only:
        experts = experts[: _prompt_length(said.get("prompt_tokens"), len(experts), where)]
    if len(form.places) < form.width:
        experts = experts[:, form.places]
    check_experts(experts, where, form.layers)
    ids = np.full(len(experts), UNKNOWN_TOKEN, np.int32) if tokens is None else tokens[: len(experts)]
    subject, domain = placing(_name(said, "subject", where), _name(said, "domain", where), where)
    name = said.get("id")
    answer = _whole(said.get("answer"), "answer", where, _MOST_CHOICES - 1)
    # A NumPy array is the sequence that matters here: lists of Python integers are eight times as large.
    sample = Sample(index, str(index if name is None else name), subject, domain, ids, answer)  # type: ignore[arg-type]
    return Checked(sample, experts, left_out)


def _token_ids(value: object, where: str) -> NDArray[np.int32] | None:
    if value is None:
        return None
    ids = np.array(value)
    if ids.ndim != 1 or ids.dtype.kind not in "iu" or (ids < 0).any() or (ids > np.iinfo(np.int32).max).any():
        raise RunError(where, expected="tokens to be a list of token ids, 0 or more", received=value)
    return ids.astype(np.int32)


def _prompt_length(value: object, n_rows: int, where: str) -> int:
    length = _whole(value, "prompt_tokens", where, n_rows)
    if length is None or not 1 <= length <= n_rows:
        expected = f"prompt_tokens, 1 to {n_rows}, to keep the prompt only"
        raise RunError(where, expected=expected, received="none" if length is None else length)
    return length


def _whole(value: object, field: str, where: str, most: int) -> int | None:
    if isinstance(value, float) and value.is_integer():  # how a column of integers with gaps is often stored
        value = int(value)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most):
        raise RunError(where, expected=f"{field} to be a whole number from 0 to {most}", received=repr(value))
    return value


def _name(said: Mapping[str, Any], field: str, where: str) -> str | None:
    value = said.get(field)
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise RunError(where, expected=f"a {field} with a name", received=repr(value))
    return value
