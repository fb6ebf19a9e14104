"""A question with a subject, a domain, choices and an answer; and a set of them that a run asks."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Question:
    """One sample.

    Args:
        id: unique in its set.
        subject: what it was filed under; statistics are clustered by it.
        domain: the group of subjects that contributions are averaged over.
        text: the question, or the whole text of a row without choices.
        choices: 2 to 26 answers; empty for a text row.
        answer: index of the right choice from 0; None where nobody says.
        where: the row that it came from, as an error names it; no part of what is asked.
    """

    id: str
    subject: str
    domain: str
    text: str
    choices: tuple[str, ...] = ()
    answer: int | None = None
    where: str | None = field(default=None, compare=False, repr=False)

    @property
    def named(self) -> str:
        """What an error calls it: its row, or else its id."""
        return self.where or f"question {self.id}"


@dataclass(frozen=True)
class TaskSet:
    """Questions in the order they are asked; `domains` in the order of the map that placed them."""

    name: str
    questions: tuple[Question, ...]
    domains: tuple[str, ...]
    digest: str
    domain_map: str = "file"
    dropped: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        name: str,
        questions: Iterable[Question],
        *,
        domain_map: str = "file",
        order: Iterable[str] = (),
        dropped: Iterable[str] = (),
    ) -> "TaskSet":
        """The set of `questions`; domains that occur, first in the order of `order`, then of appearance.

        Args:
            name: what people call the set.
            questions: the questions, in order.
            domain_map: the name of the map that placed the subjects; "file" where the rows name their domains.
            order: the map's domains.
            dropped: rows of the source that could not be asked, each with its reason.
        """
        asked = tuple(questions)
        present = dict.fromkeys(q.domain for q in asked)
        domains = tuple(d for d in dict.fromkeys(order) if d in present)
        domains += tuple(d for d in present if d not in domains)
        return cls(name, asked, domains, _digest(asked, domains), domain_map, tuple(dropped))

    def without(self, domain: str) -> "TaskSet":
        """The same set without the questions of `domain`; the set itself where it has none."""
        if domain not in self.domains:
            return self
        kept = tuple(q for q in self.questions if q.domain != domain)
        domains = tuple(d for d in self.domains if d != domain)
        return replace(self, questions=kept, domains=domains, digest=_digest(kept, domains))

    def subjects(self, domain: str | None = None) -> tuple[str, ...]:
        """The subjects that occur (in `domain`), in order of appearance."""
        return tuple(dict.fromkeys(q.subject for q in self.questions if domain in (None, q.domain)))

    def describe(self) -> dict[str, object]:
        """What `audit.json` says of the questions under "tasks": JSON values only."""
        counts = Counter(q.domain for q in self.questions)
        return {
            "name": self.name,
            "domain_map": self.domain_map,
            "questions": len(self.questions),
            "digest": self.digest,
            "domains": {d: counts[d] for d in self.domains},
            "subjects": {d: len(self.subjects(d)) for d in self.domains},
            "one_sample_domains": [d for d in self.domains if counts[d] == 1],
            "with_answer": sum(q.answer is not None for q in self.questions),
            "text_rows": sum(not q.choices for q in self.questions),
            "dropped": list(self.dropped),
        }


def _digest(questions: Iterable[Question], domains: tuple[str, ...]) -> str:
    """SHA-256 over every field of every question, in order, and over the order of the domains."""
    sha = hashlib.sha256(json.dumps(domains).encode())
    for q in questions:
        sha.update(json.dumps([q.id, q.subject, q.domain, q.text, q.choices, q.answer]).encode() + b"\n")
    return sha.hexdigest()
