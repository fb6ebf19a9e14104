"""Domain of each sample of a trace. Shapes: S samples, D domains."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from turnout.errors import TaskError


@dataclass(frozen=True, eq=False)
class Domains:
    """The domains in order, and each sample's index among them ([S] int64); every domain has a sample."""

    names: tuple[str, ...]
    label_S: Tensor

    @classmethod
    def of(cls, domain_S: Sequence[str], order: Sequence[str]) -> "Domains":
        """Index each sample's domain, given by name, in the order of `order`.

        Raises:
            TaskError: a sample's domain is not in `order`, or there is no sample.
        """
        present = set(domain_S)
        names = tuple(name for name in order if name in present)
        if missing := sorted(present - set(names)):
            raise TaskError("domains", expected=f"one of {', '.join(order)}", received=missing[0])
        if not names:
            raise TaskError("domains", expected="at least one sample", received="none")
        place = {name: d for d, name in enumerate(names)}
        return cls(names, torch.tensor([place[domain] for domain in domain_S]))

    def __len__(self) -> int:
        return len(self.names)

    def digest(self) -> str:
        """SHA-256 (hex) of the names and of each sample's domain."""
        return hashlib.sha256(json.dumps([self.names, self.label_S.tolist()]).encode()).hexdigest()
