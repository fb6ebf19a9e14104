"""Question and TaskSet: a question with subject, domain, choices and answer, and an ordered set of them."""

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
        subject: its subject; statistics are clustered by subject.
        domain: the group of subjects whose contributions are averaged.
        text: the question, or the whole text of a row without choices.
        choices: 2 to 26 answers; empty for a text row.
        answer: index of the right choice from 0; None if unknown.
        where: the source row, as an error names it; not part of the content.
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
        """Its name in an error: the row, or else the id."""
        return self.where or f"question {self.id}"


@dataclass(frozen=True)
class TaskSet:
    """Questions in order; `domains` in the order of the domain map."""

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
        """The set of `questions`; its domains are those that occur, in the order of `order`, then of appearance.

        Args:
            name: the set's name.
            questions: the questions, in order.
            domain_map: the name of the domain map; "file" where the rows have their own domains.
            order: the map's domains.
            dropped: rows of the source that were left out, each with its reason.
        """
        kept = tuple(questions)
        present = dict.fromkeys(q.domain for q in kept)
        domains = tuple(d for d in dict.fromkeys(order) if d in present)
        domains += tuple(d for d in present if d not in domains)
        return cls(name, kept, domains, _digest(kept, domains), domain_map, tuple(dropped))

    def without(self, domain: str) -> "TaskSet":
        """The set without the questions of `domain`; the same object where it has none."""
        if domain not in self.domains:
            return self
        kept = tuple(q for q in self.questions if q.domain != domain)
        domains = tuple(d for d in self.domains if d != domain)
        return replace(self, questions=kept, domains=domains, digest=_digest(kept, domains))

    def subjects(self, domain: str | None = None) -> tuple[str, ...]:
        """The subjects that occur (in `domain`), in order of appearance."""
        return tuple(dict.fromkeys(q.subject for q in self.questions if domain in (None, q.domain)))

    def describe(self) -> dict[str, object]:
        """The entry "tasks" of `audit.json`: JSON values only."""
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
