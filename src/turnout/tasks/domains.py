"""Domain maps: the domain of each subject, packaged or from a user's file.

`mmlu-9` is our reading of the nine domains of arXiv 2601.03425, whose own map is unpublished; `mmlu-4` are MMLU's own
four categories; `subject` makes each subject its own domain.
"""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from turnout.errors import TaskError

PACKAGED = ("mmlu-9", "mmlu-4")
MAPS = (*PACKAGED, "subject")


@dataclass(frozen=True)
class DomainMap:
    """Subject → domain, in the file's order; `mapping` is None where each subject is its own domain."""

    name: str
    mapping: Mapping[str, str] | None

    @property
    def domains(self) -> tuple[str, ...]:
        """The map's domains, in order of first appearance."""
        return tuple(dict.fromkeys((self.mapping or {}).values()))

    def place(self, subject: str, where: str) -> str:
        """The domain of `subject`; `where` is the row, for an error.

        Raises:
            TaskError: the map lacks the subject.
        """
        if self.mapping is None:
            return subject
        if subject not in self.mapping:
            raise TaskError(
                where,
                expected=f"a subject of the domain map {self.name}",
                received=repr(subject),
                do="pass a map with it, a domain column, or --domains subject",
            )
        return self.mapping[subject]


def load_map(spec: str | Path) -> DomainMap:
    """Load a packaged map by name, or a user's file: JSON `{subject: domain}`, or CSV of two columns.

    A CSV may start with the header `subject,domain`.

    Raises:
        TaskError: no such map or file, or a file that is not a map; names the row.
    """
    if str(spec) == "subject":
        return DomainMap("subject", None)
    if str(spec) in PACKAGED:
        text = (files("turnout.tasks") / "maps" / f"{spec}.json").read_text(encoding="utf-8")
        return DomainMap(str(spec), json.loads(text))
    path = Path(spec)
    if not path.is_file():
        received = "a folder" if path.is_dir() else "no such file"
        raise TaskError(path, expected=f"a domain map: {', '.join(MAPS)}, or a JSON or CSV file", received=received)
    return DomainMap(path.name, _read(path))


def _read(path: Path) -> dict[str, str]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as e:
        raise TaskError(path, expected="a domain map in UTF-8", received=e) from e
    rows = _csv_rows(path, text) if path.suffix.lower() == ".csv" else _json_rows(path, text)
    mapping: dict[str, str] = {}
    for where, subject, domain in rows:
        if mapping.setdefault(subject, domain) != domain:
            received = f"{subject!r} in {mapping[subject]!r} and in {domain!r}"
            raise TaskError(where, expected="one domain for each subject", received=received)
    if not mapping:
        raise TaskError(path, expected="a domain map", received="a file without subjects")
    return mapping


def _csv_rows(path: Path, text: str) -> list[tuple[str, str, str]]:
    rows = []
    reader = csv.reader(text.splitlines())
    for row in reader:
        where = f"row {reader.line_num} of {path}"
        cells = [cell.strip() for cell in row]
        if not any(cells) or (reader.line_num == 1 and [c.lower() for c in cells] == ["subject", "domain"]):
            continue
        if len(cells) != 2 or not all(cells):
            raise TaskError(where, expected="two cells, a subject and its domain", received=row)
        rows.append((where, *cells))
    return [(where, subject, domain) for where, subject, domain in rows]


def _json_rows(path: Path, text: str) -> list[tuple[str, str, str]]:
    try:
        pairs = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError) as e:
        raise TaskError(path, expected="a domain map, {subject: domain} in JSON", received=e) from e
    if not isinstance(pairs, list) or not all(isinstance(p, tuple) for p in pairs):
        raise TaskError(path, expected="a domain map, {subject: domain} in JSON", received="no JSON object")
    for subject, domain in pairs:
        if not isinstance(domain, str) or not domain:
            raise TaskError(f"subject {subject!r} of {path}", expected="the name of its domain", received=repr(domain))
    return [(f"subject {subject!r} of {path}", subject, domain) for subject, domain in pairs]
