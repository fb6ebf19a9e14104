"""Load questions by name, from a file, a folder or the hub, and assign their domains."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from turnout.errors import TaskError
from turnout.tasks import mmlu, worlds
from turnout.tasks.domains import DomainMap, load_map
from turnout.tasks.files import read_rows
from turnout.tasks.question import Question, TaskSet
from turnout.tasks.rows import Draft, Row, check

NAMES = ("mmlu", "mmlu-dev", "worlds")
WORLDS_PER_DOMAIN = 200

_DEFAULT_MAP = "mmlu-9"
_UNNAMED = "all"  # subject and domain of rows without both
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_SUFFIXES = (".jsonl", ".json", ".ndjson", ".parquet", ".csv", ".txt")


@dataclass(frozen=True)
class _Source:
    name: str
    rows: Iterable[Row]
    dropped: list[str] = field(default_factory=list)


def load_tasks(
    spec: str | Path, *, domains: str | Path | None = None, limit: int | None = None, split: str = "test"
) -> TaskSet:
    """Load the questions of `spec`, each with its domain.

    Args:
        spec: "mmlu" (from the hub), "mmlu-dev" (the dev questions in lm-evaluation-harness), "worlds" (generated), a
            folder with MMLU's files, a JSONL or Parquet file, or a dataset's id on the hub (owner/name).
        domains: "mmlu-9", "mmlu-4", "subject" or a map's file. None: the rows' own domain, and for rows without one
            mmlu-9; rows with neither subject nor domain are all in one domain, "all".
        limit: the largest number of questions of each subject; the first ones are taken.
        split: the split of a source with several; a file is read whole and "mmlu-dev" is always dev.

    Raises:
        TaskError: one line with the row, what was expected and what was received.
    """
    if limit is not None and limit < 1:
        raise TaskError("limit", expected="at least 1 question for each subject", received=limit)
    chosen_map = None if domains is None else load_map(domains)
    source = _source(spec, split)
    drafts = _unique(check(row, position) for position, row in enumerate(source.rows))
    if limit is not None:
        drafts = _first(drafts, limit)
    assignment = _DomainAssignment(chosen_map)
    questions = [assignment.question(draft) for draft in drafts]
    if not questions:
        raise TaskError(spec, expected="at least one question", received="none")
    return TaskSet.of(
        source.name, questions, domain_map=assignment.name, order=assignment.domains, dropped=source.dropped
    )


class _DomainAssignment:
    """Assigns domains to rows: by the chosen map if there is one, else by the row's own column or the default map."""

    def __init__(self, chosen_map: DomainMap | None) -> None:
        self._map_only, self._own = chosen_map is not None, False
        self._map = chosen_map or load_map(_DEFAULT_MAP)
        self._mapped = False

    @property
    def name(self) -> str:
        """The map's name; "file" where the rows have their own domains; both where some have."""
        return "+".join(["file"] * (self._own or not self._mapped) + [self._map.name] * self._mapped)

    @property
    def domains(self) -> tuple[str, ...]:
        """The map's domains; none where it was not used."""
        return self._map.domains if self._mapped else ()

    def question(self, draft: Draft) -> Question:
        """The checked row as a question with its domain."""
        domain = draft.domain
        if self._map_only or (domain is None and draft.subject is not None):
            if draft.subject is None:
                raise TaskError(draft.where, expected="a subject, for the domain map", received="none")
            domain, self._mapped = self._map.place(draft.subject, draft.where), True
        else:
            self._own = True
        domain = domain or _UNNAMED
        subject = draft.subject or domain
        return Question(draft.id, subject, domain, draft.text, draft.choices, draft.answer, draft.where)


def _source(spec: str | Path, split: str) -> _Source:
    name = str(spec)
    if name == "mmlu-dev":
        return _Source(name, *mmlu.from_harness())
    if name == "worlds":
        return _Source(name, _world_rows(split))
    path = Path(spec)
    if name == "mmlu":
        return _Source(name, mmlu.from_hub(mmlu.HUB_ID, split))
    if name and path.is_dir():
        return _Source(path.resolve().name, *mmlu.from_folder(path, split))
    if name and path.exists():
        return _Source(path.name, read_rows(path))
    if isinstance(spec, str) and _HUB_ID.fullmatch(spec) and path.suffix.lower() not in _SUFFIXES:
        return _Source(spec, mmlu.from_hub(spec, split))
    raise TaskError(
        spec, expected=f"one of {', '.join(NAMES)}, a JSONL or Parquet file, or a folder", received="no such file"
    )


def _world_rows(split: str) -> Iterator[Row]:
    for q in worlds.questions(split, WORLDS_PER_DOMAIN * len(worlds.DOMAINS)):
        fields = {"id": q.id, "subject": q.subject, "domain": q.domain, "question": q.text}
        yield Row(f"question {q.id}", {**fields, "choices": q.choices, "answer": q.answer})


def _unique(drafts: Iterable[Draft]) -> Iterator[Draft]:
    """The same rows; TaskError for an id that occurs twice."""
    seen: dict[str, str] = {}
    for draft in drafts:
        if draft.id in seen:
            raise TaskError(draft.where, expected="a unique id", received=f"{draft.id!r}, as {seen[draft.id]}")
        seen[draft.id] = draft.where
        yield draft


def _first(drafts: Iterable[Draft], limit: int) -> Iterator[Draft]:
    """The first `limit` rows of each subject."""
    counts: Counter[str | None] = Counter()
    for draft in drafts:
        subject = draft.subject or draft.domain
        counts[subject] += 1
        if counts[subject] <= limit:
            yield draft
