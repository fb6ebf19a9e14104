"""masking.json from every question's scores under every set. Shapes: S samples."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnout.auditing.evidence.bootstrap import Clusters
from turnout.masking.config import MaskConfig
from turnout.masking.effects import Measure, effects
from turnout.masking.result import SCHEMA, describe_set, figures
from turnout.masking.scores import Sample
from turnout.masking.sets import Target
from turnout.masking.source import AuditSource


def content(
    source: AuditSource,
    samples: Sequence[Sample],
    chosen: Sequence[Target],
    scores: Sequence[Mapping[str, NDArray[np.float64]]],
    config: MaskConfig,
) -> tuple[dict[str, Any], list[dict[str, list[float | None]]]]:
    """masking.json, and every set's figures by target."""
    described, values, scored = [], [], iter(scores)
    for target in chosen:
        left_out = [{"layer": number, "reason": reason} for number, reason in target.left_out.items()]
        entry: dict[str, Any] = {"layer": target.name, "left_out": left_out, "sets": []}
        if target.layers:
            of_target = next(scored)
            measures = _measures(samples, of_target)
            written = of_target["generated"][[a.width > 0 for a in samples]] if config.generate else None
            values.append(figures(measures, written, len(target.sets)))
            entry |= _target(target, measures, values[-1], config.seed)
        described.append(entry)
    result = {
        "schema": SCHEMA,
        "model": source.model,
        "audit": source.identity,
        "config": config.describe(),
        "questions": sum(a.width > 0 for a in samples),
        "texts": sum(a.width == 0 for a in samples),
        "without_answer": source.unanswered,
        "curve": "isotonic",
        "baseline": {name: of[0] for name, of in values[0].items()},
        "targets": described,
    }
    return result, values


def _target(
    target: Target, measures: Mapping[str, Measure], values: Mapping[str, Sequence[float | None]], seed: int
) -> dict[str, Any]:
    by_measure = {name: effects(target, measure, seed) for name, measure in measures.items()}
    tested = target.sets[1]
    sets = []
    for j, masked in enumerate(target.sets):
        if masked.kind in ("committee", "core"):
            result = {name: {"value": values[name][j], **by_measure[name][masked.kind]} for name in measures}
            sets.append({**describe_set(target, masked), "measures": result})
    matched = np.array([target.mass(s) for s in target.sets if s.kind == "matched"])
    imbalance = matched - target.mass(tested)
    kinds = [s.kind for s in target.sets]
    return {
        "fallback": [x.layer for x in target.layers if x.fallback],
        "controls": {kind: kinds.count(kind) for kind in ("random", "least", "matched", "curve")},
        "imbalance": {
            "mean": float(imbalance.mean()) if len(imbalance) else None,
            "largest": float(np.abs(imbalance).max()) if len(imbalance) else None,
        },
        "sets": sets,
    }


def _measures(samples: Sequence[Sample], scores: Mapping[str, NDArray[np.float64]]) -> dict[str, Measure]:
    """The measures that these samples have."""
    is_question = np.array([a.width > 0 for a in samples])
    n_bytes = np.array([float(a.n_bytes) for a in samples])
    result = {}
    if is_question.any():
        of, one = _clusters(samples, is_question), np.ones(int(is_question.sum()))
        result["accuracy"] = Measure("accuracy", scores["correct"][is_question], one, of, -1)
        result["logprob"] = Measure("logprob", scores["logprob"][is_question], one, of, -1)
        written = scores["generated"][is_question]
        if not np.isnan(written).any():
            result["generated"] = Measure("generated", (written == 1).astype(float), one, of, -1)
    if not is_question.all():
        texts = ~is_question
        clusters = _clusters(samples, texts)
        result["bits_per_byte"] = Measure("bits_per_byte", scores["bits"][texts], n_bytes[texts], clusters, +1)
    return result


def _clusters(samples: Sequence[Sample], kept_S: NDArray[np.bool_]) -> Clusters:
    of = [a for a, kept in zip(samples, kept_S, strict=True) if kept]
    domains, subjects = sorted({a.domain for a in of}), sorted({a.subject for a in of})
    domain_S = np.array([domains.index(a.domain) for a in of], np.int64)
    return Clusters(domain_S, np.array([subjects.index(a.subject) for a in of], np.int64), len(domains))
