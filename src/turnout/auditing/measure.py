"""From a stored trace to every figure, without the model. Shape suffixes: E routed experts, D domains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import polars as pl
import torch
from torch import Tensor

from turnout import ops
from turnout.auditing.accuracy import accuracy, with_predictions
from turnout.auditing.config import AuditConfig
from turnout.auditing.domains import Domains
from turnout.auditing.evidence.bootstrap import Clusters, Resamples
from turnout.auditing.evidence.claim import model_claim
from turnout.auditing.evidence.layer import Evidence, layer_evidence
from turnout.auditing.evidence.routers import Router
from turnout.auditing.figures import LayerAudit, layer_figures, overall
from turnout.auditing.measures import Routing, describe, layer_measures
from turnout.auditing.reading import LayerReading, read_layer, read_values, specificity
from turnout.errors import RecipeError
from turnout.progress import Progress, silent
from turnout.runs import Trace

SCHEMA = 1
_SHOWN_WITHOUT = {"mmlu-9": ("Lang-Ling",)}  # domains of a map whose reading is our own: figures without them beside


@dataclass(frozen=True, eq=False)
class Measured:
    """All that an audit found, for audit.json and the tables.

    `kept` holds the indices of the domains that the figures rest on; `readings` have all.
    """

    readings: tuple[LayerReading, ...]
    layers: tuple[LayerAudit, ...]
    evidence: tuple[Evidence, ...]
    domains: Domains
    kept: tuple[int, ...]
    samples: pl.DataFrame
    config: AuditConfig

    @property
    def kept_names(self) -> tuple[str, ...]:
        """The kept domains' names, in order."""
        return tuple(self.domains.names[d] for d in self.kept)

    def contribution(self, reading: LayerReading) -> Tensor:
        """[D, E] in the chosen reading, of the kept domains."""
        return reading.contribution[self.config.kind][list(self.kept)]


def measure(
    trace: Trace,
    domains: Domains,
    config: AuditConfig,
    progress: Progress = silent,
    routers: Mapping[int, Router] = MappingProxyType({}),
) -> Measured:
    """Every figure of `config` from `trace`, one layer's columns in memory at a time.

    Args:
        trace: a finished trace.
        domains: each sample's domain, in the order of the trace's `index`.
        config: what to measure.
        progress: told of each layer.
        routers: the routers' rows by layer, for the rotated-router null; without them it is not computed.

    Raises:
        RecipeError: `min_specificity` leaves no domain.
    """
    readings = []
    for done, layer in enumerate(trace.layers):
        progress("measuring", done, len(trace.layers), "layers")
        readings.append(read_layer(layer, read_values(trace, layer, config.scope), domains))
    progress("measuring", len(trace.layers), len(trace.layers), "layers")
    specific = [specificity(reading, domains) for reading in readings]
    kept = _kept(specific, domains, config.min_specificity)
    layers = tuple(
        layer_figures(reading.layer, reading.contribution[config.kind][list(kept)], of_domain, config.presence)
        for reading, of_domain in zip(readings, specific, strict=True)
    )
    evidence = _evidence(trace, readings, layers, domains, kept, config, routers, progress)
    layers = tuple(
        layer | {"intervals": found.intervals, "nulls": found.nulls, "claim": found.claim}
        for layer, found in zip(layers, evidence, strict=True)
    )
    names = [domains.names[d] for d in domains.label_S.tolist()]
    samples = with_predictions(trace.samples().with_columns(domain=pl.Series(names, dtype=pl.String)))
    return Measured(tuple(readings), layers, evidence, domains, kept, samples, config)


def content(found: Measured, model: dict[str, object], tasks: dict[str, object]) -> dict[str, object]:
    """audit.json: `found` with what it was found on."""
    kept = set(found.kept)
    return {
        "schema": SCHEMA,
        "model": model,
        "tasks": tasks,
        "kind": found.config.kind,
        "scope": found.config.scope,
        "config": found.config.describe(),
        "measures": describe(),
        "dropped_domains": [name for d, name in enumerate(found.domains.names) if d not in kept],
        "layers": list(found.layers),
        "claim": model_claim([found_of.claim for found_of in found.evidence if found_of.claim is not None]),
        "overall": overall(found.layers),
        "overall_without": _overall_without(found, str(tasks.get("domain_map"))),
        "accuracy": accuracy(found.samples, found.domains.names),
    }


def _evidence(
    trace: Trace,
    readings: Sequence[LayerReading],
    layers: Sequence[LayerAudit],
    domains: Domains,
    kept: tuple[int, ...],
    config: AuditConfig,
    routers: Mapping[int, Router],
    progress: Progress,
) -> tuple[Evidence, ...]:
    """Every layer's evidence on the kept domains' samples, from the same resamples; its columns are read once more."""
    place = {d: i for i, d in enumerate(kept)}
    rows = [i for i, d in enumerate(domains.label_S.tolist()) if d in place]
    subject_S = trace.samples()["subject"].cast(pl.Categorical).to_physical().to_numpy().astype(np.int64)
    domain_S = np.array([place[d] for d in domains.label_S[rows].tolist()])
    resamples = Resamples.draw(Clusters(domain_S, subject_S[rows], len(kept)), config.seed)
    names = [domains.names[d] for d in kept]
    found = []
    for done, (reading, layer) in enumerate(zip(readings, layers, strict=True)):
        progress("resampling", done, len(layers), "layers")
        values = read_values(trace, reading.layer, config.scope).take(torch.tensor(rows))
        contribution_DE = reading.contribution[config.kind][list(kept)]
        router = routers.get(reading.layer.layer)
        found.append(layer_evidence(reading.layer, layer, values, contribution_DE, router, resamples, names, config))
    progress("resampling", len(layers), len(layers), "layers")
    return tuple(found)


def _kept(specific: list[dict[str, float] | None], domains: Domains, least: float | None) -> tuple[int, ...]:
    everything = tuple(range(len(domains)))
    if least is None:
        return everything
    known = [layer for layer in specific if layer is not None]
    if not known:
        raise RecipeError("min_specificity", expected="two domains at least", received=f"only {domains.names[0]}")
    mean = {name: sum(layer[name] for layer in known) / len(known) for name in domains.names}
    kept = tuple(d for d in everything if mean[domains.names[d]] >= least)
    if not kept:
        received = f"{max(mean.values()):.3f} at most"
        raise RecipeError(
            "min_specificity", expected=f"a domain with a silhouette of {least} or more", received=received
        )
    return kept


def _overall_without(found: Measured, domain_map: str) -> dict[str, object]:
    return {
        name: _measures_without(found, name)
        for part in domain_map.split("+")
        for name in _SHOWN_WITHOUT.get(part, ())
        if name in found.kept_names and len(found.kept) > 1
    }


def _measures_without(found: Measured, name: str) -> dict[str, dict[str, float | int | None]]:
    rows = [i for i, kept in enumerate(found.kept_names) if kept != name]
    layers = []
    for reading in found.readings:
        contribution_DE, k = found.contribution(reading)[rows], reading.layer.top_k
        members = ops.committee(contribution_DE, k, found.config.presence).members
        layers.append(layer_measures(Routing(contribution_DE, k, members)))
    return overall(layers)
