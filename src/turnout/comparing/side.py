"""One of the compared runs: its audit.json, and the trace from which its figures can be resampled; matching of layers.

Shapes: S samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from turnout.auditing.config import AuditConfig
from turnout.auditing.evidence.bootstrap import Clusters
from turnout.auditing.reading import Domains
from turnout.auditing.result import AUDIT_FILE, Audit
from turnout.runs import RunFolder, Trace


@dataclass(frozen=True, eq=False)
class Side:
    """A complete run. `trace` is None for a run that was measured from another run's trace.

    Attributes:
        rows_S: positions in the trace of the samples of the kept domains, from which the figures are computed.
        samples: id, subject and domain of these samples.
        clusters: their domains and subjects.
        kept: names of the kept domains, in order.
    """

    name: str
    audit: dict[str, Any]
    config: AuditConfig
    trace: Trace | None
    rows_S: list[int]
    samples: pl.DataFrame | None
    clusters: Clusters | None
    kept: tuple[str, ...]

    @classmethod
    def read(cls, path: Path | str) -> "Side":
        """Read the run in the folder `path`; RunError if it is unfinished or damaged."""
        folder = RunFolder.read(path)
        audit = Audit.load(Path(path)).to_dict()
        config = AuditConfig.of(**folder.read_json(AUDIT_FILE)["config"])  # type: ignore[arg-type]
        name = folder.path.resolve().name
        kept = tuple(n for n in audit["tasks"]["domains"] if n not in audit["dropped_domains"])
        if not (folder.path / "trace").is_dir():
            return cls(name, audit, config, None, [], None, None, kept)
        trace = folder.trace()
        domains = Domains.of(trace.samples()["domain"].to_list(), list(audit["tasks"]["domains"]))
        return _with_trace(name, audit, config, trace, domains)

    @property
    def layers(self) -> list[dict[str, Any]]:
        """The layers of audit.json, in order of depth."""
        return self.audit["layers"]

    @property
    def numbers(self) -> list[int]:
        """Numbers of the decoder layers."""
        return [layer["layer"] for layer in self.layers]


def _with_trace(name: str, audit: dict[str, Any], config: AuditConfig, trace: Trace, domains: Domains) -> Side:
    kept = tuple(n for n in domains.names if n not in audit["dropped_domains"])
    place = {domains.names.index(n): i for i, n in enumerate(kept)}
    labels = domains.label_S.tolist()
    rows = [i for i, d in enumerate(labels) if d in place]
    samples = trace.samples().select("id", "subject", "domain")[rows]
    subjects = {subject: i for i, subject in enumerate(sorted(set(samples["subject"])))}
    subject_S = np.array([subjects[subject] for subject in samples["subject"]], np.int64)
    domain_S = np.array([place[labels[i]] for i in rows], np.int64)
    return Side(name, audit, config, trace, rows, samples, Clusters(domain_S, subject_S, len(kept)), kept)


def described(side: Side) -> dict[str, Any]:
    """The entry of a run in the result."""
    audit = side.audit
    return {
        "run": side.name,
        "model": audit["model"].get("id"),
        "kind": audit["kind"],
        "scope": audit["scope"],
        "layers": side.numbers,
        "claim": audit.get("claim"),
        "overall": audit["overall"],
    }


def differences(sides: list[Side]) -> list[str]:
    """Differences between the runs other than the model, which make their figures less comparable."""
    settings = {
        "kind": [side.audit["kind"] for side in sides],
        "scope": [side.audit["scope"] for side in sides],
        "questions": [side.audit["tasks"].get("digest") for side in sides],
        "domain map": [side.audit["tasks"].get("domain_map") for side in sides],
        "kept domains": [side.kept for side in sides],
    }
    return [f"different {words}" for words, values in settings.items() if any(value != values[0] for value in values)]


def match(reference: Sequence[int], other: Sequence[int]) -> list[int]:
    """Position in the other run of the partner of each MoE layer of the reference.

    With equal numbers of layers it is the layer at the same position. Otherwise it is the layer of nearest relative
    depth, (position + ½) / layers, the shallower one of two at equal distance; a layer can then be the partner of
    several layers, or of none.
    """
    if len(reference) == len(other):
        return list(range(len(other)))
    return [_nearest(place, len(reference), len(other)) for place in range(len(reference))]


def _nearest(place: int, n_reference: int, n_other: int) -> int:
    """Position of nearest relative depth, in whole numbers so that ties are exact."""
    return min(range(n_other), key=lambda at: (abs((2 * at + 1) * n_reference - (2 * place + 1) * n_other), at))


def rule(reference: Sequence[int], other: Sequence[int]) -> str:
    """The rule by which `match` matches these layers: number, position or relative depth."""
    if list(reference) == list(other):
        return "number"
    return "position" if len(reference) == len(other) else "relative depth"
