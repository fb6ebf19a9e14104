"""Samples of an import: each sample's fields, matched to its experts and checked.

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
_LONGEST = 1 << 31
_START = ("start", "routed_experts_start_len", "routed_experts_prompt_start")
"""Names of the number of leading tokens whose rows a request left out: ours, SGLang's, vLLM's."""


@dataclass(frozen=True, eq=False)
class Checked:
    """One sample as it goes into the trace: its fields, its experts, and whether a token id was left out."""

    sample: Sample
    experts_TLK: NDArray[Any]
    left_out: int


@dataclass(frozen=True)
class Form:
    """The layers to keep, and their places among the `width` layers of the arrays."""

    layers: tuple[TraceLayer, ...]
    places: list[int]
    width: int


def read_form(file: Path, config: ImportConfig) -> Form:
    """The form of the file's first sample, which all others must have."""
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
    """Each sample of `file` with its fields, those of `beside` first; a null there is the same as no field.

    Rows are matched by id if both files have ids, which then every row must have; else by order.

    Raises:
        RunError: a row without id among rows with ids, an id twice, or a row without a partner.
    """
    routed = read_routed(file, config.shape)
    if beside is None:
        yield from ((one, one.fields) for one in routed)
        return
    records, by_id = list(read_records(beside)), dict[str, Mapping[str, Any]]()
    for where, record in records:
        name = record.get("id")
        if name is not None and by_id.setdefault(str(name), record) is not record:
            raise RunError(where, expected="a unique id", received=repr(name))
    unnamed = next((where for where, record in records if record.get("id") is None), None)
    n_samples, by_order = 0, not by_id
    for one in routed:
        name = one.fields.get("id")
        if n_samples == 0 and name is None:
            by_order = True
        if (name is None) != by_order and by_id:
            raise RunError(one.where, expected="an id in every sample, or in none", received=f"id {name!r}")
        if not by_order and unnamed is not None:
            raise RunError(unnamed, expected="an id, as other rows have", received="none")
        own = by_id.get(str(name)) if not by_order else records[n_samples][1] if n_samples < len(records) else None
        if own is None:
            raise RunError(one.where, expected=f"a row of its own in {beside}", received="none")
        yield one, {**one.fields, **{key: value for key, value in own.items() if value is not None}}
        n_samples += 1
    if n_samples < len(records):
        raise RunError(beside, expected=f"{n_samples} rows, as many as samples", received=len(records))


class Placing:
    """Assigns subject and domain: by the given map, else the sample's own, else by mmlu-9."""

    def __init__(self, chosen: str | Path | None) -> None:
        self._chosen = chosen is not None
        self._map: DomainMap = load_map(_DEFAULT_MAP if chosen is None else chosen)
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
        if self._chosen or (domain is None and subject is not None):
            if subject is None:
                raise RunError(where, expected="a subject, to place it by the domain map", received="none")
            self._used.add(self._map.name)
            return subject, self._map.place(subject, where)
        self._used.add("file")
        return subject or domain or _UNNAMED, domain or _UNNAMED


def check_sample(
    index: int, one: Routed, fields: Mapping[str, Any], form: Form, placing: Placing, prompt_only: bool
) -> Checked:
    """Check one sample; select its layers, and with `prompt_only` its prompt.

    Raises:
        RunError: an array, a length or a field that does not fit.
    """
    experts, where = one.experts, one.where
    if experts.ndim != 3 or experts.shape[1] != form.width:
        raise RunError(where, expected=f"[tokens, {form.width} layers, K], as the first", received=list(experts.shape))
    start = _check_lengths(fields, len(experts), where)
    tokens = _token_ids(fields.get("tokens"), where)
    if tokens is not None:
        tokens = tokens[start:]
    if tokens is not None and len(tokens) not in (len(experts), len(experts) + 1):
        expected = (
            f"{len(experts)} token ids, one for each row, or one more, the answer's last (after the first {start})"
        )
        raise RunError(where, expected=expected, received=len(tokens))
    left_out = int(tokens is not None and len(tokens) > len(experts))
    if prompt_only:
        experts = experts[: _prompt_length(fields.get("prompt_tokens"), start, len(experts), where)]
    if len(form.places) < form.width:
        experts = experts[:, form.places]
    check_experts(experts, where, form.layers)
    ids = np.full(len(experts), UNKNOWN_TOKEN, np.int32) if tokens is None else tokens[: len(experts)]
    subject, domain = placing(_name(fields, "subject", where), _name(fields, "domain", where), where)
    name = fields.get("id")
    answer = _whole(fields.get("answer"), "answer", where, _MOST_CHOICES - 1)
    # A NumPy array is the sequence that matters here: lists of Python integers are eight times as large.
    sample = Sample(index, str(index if name is None else name), subject, domain, ids, answer)  # type: ignore[arg-type]
    return Checked(sample, experts, left_out)


def _check_lengths(fields: Mapping[str, Any], n_rows: int, where: str) -> int:
    """Number of leading tokens without a row; RunError unless rows = prompt + completion - 1 - start.

    The last token of an answer is never routed, so it has no row.
    """
    given = [_whole(fields[name], name, where, _LONGEST) for name in _START if fields.get(name) is not None]
    start = given[0] or 0 if given else 0
    counts = [_whole(fields.get(name), name, where, _LONGEST) for name in ("prompt_tokens", "completion_tokens")]
    if None not in counts:
        fits = sum(count or 0 for count in counts) - 1 - start
        if n_rows != fits:
            expected = f"{fits} rows (prompt {counts[0]} + completion {counts[1]} - 1 - start {start})"
            do = "give `start`, the number of leading tokens that the request left out"
            raise RunError(where, expected=expected, received=n_rows, do=do)
    return start


def _token_ids(value: object, where: str) -> NDArray[np.int32] | None:
    if value is None:
        return None
    ids = np.array(value)
    if ids.ndim != 1 or ids.dtype.kind not in "iu" or (ids < 0).any() or (ids > np.iinfo(np.int32).max).any():
        raise RunError(where, expected="tokens to be a list of token ids, 0 or more", received=value)
    return ids.astype(np.int32)


def _prompt_length(value: object, start: int, n_rows: int, where: str) -> int:
    """Rows of the prompt, whose first `start` tokens have none."""
    length = _whole(value, "prompt_tokens", where, start + n_rows)
    if length is None or not 1 <= length - start <= n_rows:
        expected = f"prompt_tokens, {start + 1} to {start + n_rows}, to keep the prompt only"
        raise RunError(where, expected=expected, received="none" if length is None else length)
    return length - start


def _whole(value: object, field: str, where: str, most: int) -> int | None:
    if isinstance(value, float) and value.is_integer():  # how a column of integers with gaps is often stored
        value = int(value)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most):
        raise RunError(where, expected=f"{field} to be a whole number from 0 to {most}", received=repr(value))
    return value


def _name(fields: Mapping[str, Any], field: str, where: str) -> str | None:
    value = fields.get(field)
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise RunError(where, expected=f"a {field} with a name", received=repr(value))
    return value
