"""Every figure of an audit from its stored trace, without the model; the content of audit.json.

Shapes: E routed experts, D domains.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from turnout import ops
from turnout.auditing.config import AuditConfig
from turnout.auditing.evidence.bootstrap import Clusters, Resamples
from turnout.auditing.evidence.claim import model_claim
from turnout.auditing.evidence.layer import Evidence, layer_evidence
from turnout.auditing.evidence.rotated import Router
from turnout.auditing.measures import MEASURES, Routing, describe, floors, layer_measures
from turnout.auditing.reading import Domains, LayerReading, read_layer, read_values, specificity
from turnout.errors import RecipeError
from turnout.listener import Listener
from turnout.runs import Trace, TraceLayer

SCHEMA = 1
_OWN_READING = {"mmlu-9": ("Lang-Ling",)}  # domains whose subjects are our choice: figures without them are given too

LayerAudit = dict[str, Any]
"""One layer of audit.json: its numbers, committee, every measure by name (None where undefined), evidence."""

Spread = dict[str, float | int | None]


@dataclass(frozen=True, eq=False)
class Measured:
    """Everything that audit.json and the tables of an audit are written from."""

    readings: tuple[LayerReading, ...]
    """Contributions of each layer in all domains."""
    layers: tuple[LayerAudit, ...]
    evidence: tuple[Evidence, ...]
    domains: Domains
    kept: tuple[int, ...]
    """Indices of the domains that the figures are computed from."""
    samples: pl.DataFrame
    config: AuditConfig

    @property
    def kept_names(self) -> tuple[str, ...]:
        """Names of the kept domains, in order."""
        return tuple(self.domains.names[d] for d in self.kept)

    def contribution(self, reading: LayerReading) -> Tensor:
        """Contributions of the chosen kind in the kept domains, [D, E]."""
        return reading.contribution[self.config.kind][list(self.kept)]


def measure(
    trace: Trace,
    domains: Domains,
    config: AuditConfig,
    listener: Listener = Listener(),
    routers: Mapping[int, Router] = MappingProxyType({}),
) -> Measured:
    """Compute every figure of `config` from `trace`, with one layer's columns in memory at a time.

    Args:
        trace: a finished trace.
        domains: each sample's domain, in the order of the trace's `index`.
        config: kind, scope and the other choices of the audit.
        listener: receives progress once a layer.
        routers: the routers' rows by layer, for the rotated-router null; without them it is not computed.

    Raises:
        RecipeError: `min_specificity` leaves no domain.
    """
    readings = []
    for done, layer in enumerate(trace.layers):
        listener.progress("measuring", done, len(trace.layers), "layers")
        readings.append(read_layer(layer, read_values(trace, layer, config.scope), domains))
    listener.progress("measuring", len(trace.layers), len(trace.layers), "layers")
    specific = [specificity(reading, domains) for reading in readings]
    kept = _kept(specific, domains, config.min_specificity)
    layers = tuple(
        layer_figures(reading.layer, reading.contribution[config.kind][list(kept)], by_domain, config.presence)
        for reading, by_domain in zip(readings, specific, strict=True)
    )
    evidence = _evidence(trace, readings, layers, domains, kept, config, routers, listener)
    layers = tuple(
        layer | {"intervals": one.intervals, "nulls": one.nulls, "claim": one.claim}
        for layer, one in zip(layers, evidence, strict=True)
    )
    names = [domains.names[d] for d in domains.label_S.tolist()]
    samples = with_predictions(trace.samples().with_columns(domain=pl.Series(names, dtype=pl.String)))
    return Measured(tuple(readings), layers, evidence, domains, kept, samples, config)


def content(measured: Measured, model: dict[str, object], tasks: dict[str, object]) -> dict[str, object]:
    """The content of audit.json: the figures with a description of model and questions."""
    kept = set(measured.kept)
    return {
        "schema": SCHEMA,
        "model": model,
        "tasks": tasks,
        "kind": measured.config.kind,
        "scope": measured.config.scope,
        "config": measured.config.describe(),
        "measures": describe(),
        "dropped_domains": [name for d, name in enumerate(measured.domains.names) if d not in kept],
        "layers": list(measured.layers),
        "claim": model_claim([one.claim for one in measured.evidence if one.claim is not None]),
        "overall": overall(measured.layers),
        "overall_without": _overall_without(measured, str(tasks.get("domain_map"))),
        "accuracy": accuracy(measured.samples, measured.domains.names),
    }


def _evidence(
    trace: Trace,
    readings: Sequence[LayerReading],
    layers: Sequence[LayerAudit],
    domains: Domains,
    kept: tuple[int, ...],
    config: AuditConfig,
    routers: Mapping[int, Router],
    listener: Listener,
) -> tuple[Evidence, ...]:
    """Evidence of each layer on the samples of the kept domains, from shared resamples; reads the columns again."""
    place = {d: i for i, d in enumerate(kept)}
    rows = [i for i, d in enumerate(domains.label_S.tolist()) if d in place]
    subject_S = trace.samples()["subject"].cast(pl.Categorical).to_physical().to_numpy().astype(np.int64)
    domain_S = np.array([place[d] for d in domains.label_S[rows].tolist()])
    resamples = Resamples.draw(Clusters(domain_S, subject_S[rows], len(kept)), config.seed)
    names = [domains.names[d] for d in kept]
    evidence = []
    for done, (reading, layer) in enumerate(zip(readings, layers, strict=True)):
        listener.progress("resampling", done, len(layers), "layers")
        values = read_values(trace, reading.layer, config.scope).take(torch.tensor(rows))
        contribution_DE = reading.contribution[config.kind][list(kept)]
        router = routers.get(reading.layer.layer)
        evidence.append(layer_evidence(reading.layer, layer, values, contribution_DE, router, resamples, names, config))
    listener.progress("resampling", len(layers), len(layers), "layers")
    return tuple(evidence)


def _kept(specific: list[dict[str, float] | None], domains: Domains, least: float | None) -> tuple[int, ...]:
    """Indices of the domains whose mean specificity over layers is at least `least`; all of them for None."""
    everything = tuple(range(len(domains)))
    if least is None:
        return everything
    known = [layer for layer in specific if layer is not None]
    if not known:
        raise RecipeError("min_specificity", expected="at least two domains", received=f"only {domains.names[0]}")
    mean = {name: sum(layer[name] for layer in known) / len(known) for name in domains.names}
    kept = tuple(d for d in everything if mean[domains.names[d]] >= least)
    if not kept:
        received = f"at most {max(mean.values()):.3f}"
        raise RecipeError(
            "min_specificity", expected=f"a domain with a silhouette of {least} or more", received=received
        )
    return kept


def _overall_without(measured: Measured, domain_map: str) -> dict[str, object]:
    """`overall` without each domain whose subjects are our own choice."""
    return {
        name: _measures_without(measured, name)
        for part in domain_map.split("+")
        for name in _OWN_READING.get(part, ())
        if name in measured.kept_names and len(measured.kept) > 1
    }


def _measures_without(measured: Measured, name: str) -> dict[str, dict[str, float | int | None]]:
    rows = [i for i, kept in enumerate(measured.kept_names) if kept != name]
    layers = []
    for reading in measured.readings:
        contribution_DE, k = measured.contribution(reading)[rows], reading.layer.top_k
        members = ops.committee(contribution_DE, k, measured.config.presence).members
        layers.append(layer_measures(Routing(contribution_DE, k, members)))
    return overall(layers)


def layer_figures(
    layer: TraceLayer, contribution_DE: Tensor, specificity: dict[str, float] | None, presence: float
) -> LayerAudit:
    """Every figure of one layer from its contributions of the chosen kind; intervals, nulls and claim are added later.

    Args:
        layer: the layer's numbers.
        contribution_DE: contributions of the domains that count.
        specificity: mean silhouette of each domain; None for one domain.
        presence: least share of domains of a candidate.
    """
    committee = ops.committee(contribution_DE, layer.top_k, presence)
    routing = Routing(contribution_DE, layer.top_k, committee.members)
    return {
        "layer": layer.layer,
        "experts": layer.experts,
        "top_k": layer.top_k,
        "shared": layer.shared,
        "committee": committee.members.tolist(),
        "mean_rank": committee.mean_rank.tolist(),
        "rank_variance": committee.rank_variance.tolist(),
        "presence": committee.presence.tolist(),
        "candidates": committee.candidates.tolist(),
        "fallback": committee.fallback,
        **layer_measures(routing),
        "specificity": specificity,
        "intervals": {},
        "nulls": {"floors": floors(routing)},
        "claim": None,
    }


def overall(layers: Sequence[Mapping[str, Any]]) -> dict[str, Spread]:
    """Mean, least and largest value of each measure over the layers that define it; `undefined` counts the others."""
    return {name: _spread([layer[name] for layer in layers]) for name in MEASURES}


def _spread(values: Sequence[float | None]) -> Spread:
    known = [value for value in values if value is not None]
    undefined = len(values) - len(known)
    if not known:
        return {"mean": None, "min": None, "max": None, "undefined": undefined}
    return {"mean": math.fsum(known) / len(known), "min": min(known), "max": max(known), "undefined": undefined}


def with_predictions(samples: pl.DataFrame) -> pl.DataFrame:
    """Add `predicted` (the choice of greatest log-probability, the first of equal ones) and `correct` to `samples`.

    Both are null if the model's answer was not read; `correct` also if the right answer is unknown.
    """
    predicted = pl.col("choice_logprobs").list.arg_max().cast(pl.Int16)
    return samples.with_columns(predicted=predicted).with_columns(correct=pl.col("predicted") == pl.col("answer"))


def accuracy(samples: pl.DataFrame, domains: tuple[str, ...]) -> dict[str, object] | None:
    """Share of right answers, overall and by domain, with Wilson 95 % intervals; None if no answer was read.

    Args:
        samples: the result of `with_predictions`, with each sample's `domain`.
        domains: names, in order.
    """
    scored = samples.filter(pl.col("correct").is_not_null())
    if scored.is_empty():
        return None
    by_domain = {d: scored.filter(pl.col("domain") == d)["correct"] for d in domains}
    return {"overall": _share(scored["correct"]), "domains": {d: _share(right) for d, right in by_domain.items()}}


def _share(right: pl.Series) -> dict[str, object] | None:
    n, correct = len(right), int(right.sum())
    if n == 0:
        return None
    return {"accuracy": correct / n, "correct": correct, "questions": n, "interval": list(ops.wilson(correct, n))}
