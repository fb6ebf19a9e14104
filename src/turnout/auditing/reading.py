"""Reading of a stored trace: the domain of each sample, and one layer's routing values and contributions by domain.

Shapes: S samples, E routed experts of a layer, D domains, H hidden size.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from numpy.typing import NDArray
from torch import Tensor

from turnout import ops
from turnout.auditing.config import Kind, Scope
from turnout.errors import TaskError
from turnout.runs import Trace, TraceLayer


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


@dataclass(frozen=True, eq=False)
class LayerReading:
    """Contributions [D, E] float64 of one layer in all four kinds, and each sample's silhouette [S].

    `silhouette_S` is None if there is only one domain. A layer without scores has frequency alone, and no silhouette.
    """

    layer: TraceLayer
    contribution: dict[Kind, Tensor]
    silhouette_S: Tensor | None


@dataclass(frozen=True, eq=False)
class LayerValues:
    """Values of one layer's samples: p, applied weights and choice frequency [S, E] float64; router inputs [S, H].

    p and weights are None if only the chosen experts are known, inputs if they were not stored.
    """

    scores_SE: Tensor | None
    weight_SE: Tensor | None
    frequency_SE: Tensor
    inputs_SH: Tensor | None

    def of(self, kind: Kind) -> Tensor:
        """The values [S, E] whose domain means are the contributions of a kind; `released` is not such a mean."""
        values_SE = {"gate": self.scores_SE, "weight": self.weight_SE, "frequency": self.frequency_SE}[kind]
        assert values_SE is not None, f"{kind} of a trace without scores"
        return values_SE

    def take(self, rows_S: Tensor) -> "LayerValues":
        """The values of some of the samples."""
        fields = (self.scores_SE, self.weight_SE, self.inputs_SH)
        scores_SE, weight_SE, inputs_SH = (None if x is None else x[rows_S] for x in fields)
        return LayerValues(scores_SE, weight_SE, self.frequency_SE[rows_S], inputs_SH)


def read_values(trace: Trace, layer: TraceLayer, scope: Scope) -> LayerValues:
    """Read the columns of one layer of `trace`."""
    inputs = trace.inputs(layer.layer) if scope == "last" else None
    return LayerValues(
        scores_SE=_doubles(trace.scores(layer.layer, scope)) if layer.scored else None,
        weight_SE=_doubles(trace.weights(layer.layer, scope)) if layer.scored else None,
        frequency_SE=_doubles(trace.frequency(layer.layer, scope)),
        inputs_SH=None if inputs is None else torch.from_numpy(inputs),
    )


def read_layer(layer: TraceLayer, values: LayerValues, domains: Domains) -> LayerReading:
    """Contributions of one layer by domain, and the silhouettes of its samples."""
    label_S, n_domains = domains.label_S, len(domains)
    scores_SE, weight_SE, frequency_SE = values.scores_SE, values.weight_SE, values.frequency_SE
    contribution: dict[Kind, Tensor] = {"frequency": ops.contribution(frequency_SE, label_S, n_domains)}
    if scores_SE is None or weight_SE is None:
        return LayerReading(layer, contribution, None)
    contribution |= {
        "gate": ops.contribution(scores_SE, label_S, n_domains),
        "weight": ops.contribution(weight_SE, label_S, n_domains),
        "released": ops.released(weight_SE, label_S, n_domains, frequency_SE),
    }
    return LayerReading(layer, contribution, ops.silhouette(scores_SE, label_S) if n_domains > 1 else None)


def specificity(reading: LayerReading, domains: Domains) -> dict[str, float] | None:
    """Mean silhouette of each domain's samples; None if there is only one domain."""
    if reading.silhouette_S is None:
        return None
    mean_D = ops.contribution(reading.silhouette_S[:, None], domains.label_S, len(domains))[:, 0]
    return dict(zip(domains.names, mean_D.tolist(), strict=True))


def _doubles(values: NDArray) -> Tensor:  # type: ignore[type-arg]
    return torch.from_numpy(values).double()
