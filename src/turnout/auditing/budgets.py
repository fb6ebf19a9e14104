"""Budget sweep: the committee at other numbers of chosen experts.

`recut` ranks the stored contributions with another K: it shows how much the figures depend on that threshold.
`rerun` lets every router choose K experts and captures the routing again: the hidden states change with the layers
below. Retention is the share of the reference committee, that of the model's own K, that stays in the committee.

Shapes: S samples, E routed experts of a layer, D domains.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import pyarrow as pa
import torch
from torch import Tensor

from turnout import ops
from turnout.auditing.config import AuditConfig, Kind
from turnout.auditing.measures import MEASURES, Routing, layer_measures
from turnout.auditing.reading import Domains, LayerValues, read_values
from turnout.errors import ModelError, RecipeError
from turnout.listener import Listener
from turnout.models.change.intervene import with_top_k
from turnout.models.forward.batches import plan_batches
from turnout.models.forward.capture import capture
from turnout.models.forward.routing import LayerTrace
from turnout.models.wrap.anatomy import MoE
from turnout.runs import RunFolder, Trace, TraceLayer
from turnout.runs.pieces import read_piece, write_piece

Mode = Literal["recut", "rerun"]
_NO_MODEL = "the model was not given"


@dataclass(frozen=True)
class BudgetRow:
    """One layer at one K.

    `measures` holds those that the table of measures follows over K; `retention` is the share of the reference
    committee that stays.
    """

    layer: int
    k: int
    mode: Mode
    committee: tuple[int, ...]
    fallback: bool
    measures: dict[str, float | None]
    retention: float


@dataclass(frozen=True)
class BudgetSweep:
    """Committees over budgets. `missing` is the reason why there is no rerun; None if there is one."""

    ks: tuple[int, ...]
    own: dict[int, int]
    rows: tuple[BudgetRow, ...]
    missing: str | None

    def to_dict(self) -> dict[str, Any]:
        """The entry of audit.json: means over layers for each mode and K; an undefined figure is None."""
        modes = dict.fromkeys(row.mode for row in self.rows)
        curves = [self._mean(mode, k) for mode in modes for k in self.ks]
        own = sorted(set(self.own.values()))
        return {"k": list(self.ks), "own_k": own, "curves": curves, "rerun": {"missing": self.missing}}

    def tables(self) -> dict[str, pa.Table]:
        """The table `budgets`: layer, k, mode, own (whether k is the layer's own), committee, fallback, measures, …."""
        columns = {
            "layer": [row.layer for row in self.rows],
            "k": [row.k for row in self.rows],
            "mode": [row.mode for row in self.rows],
            "own": [row.k == self.own[row.layer] for row in self.rows],
            "committee": [list(row.committee) for row in self.rows],
            "fallback": [row.fallback for row in self.rows],
            **{name: [row.measures[name] for row in self.rows] for name in _followed()},
            "retention": [row.retention for row in self.rows],
        }
        return {"budgets": pa.table(columns, schema=_budgets_schema())}

    def _mean(self, mode: Mode, k: int) -> dict[str, Any]:
        rows = [row for row in self.rows if row.mode == mode and row.k == k]
        return {
            "k": k,
            "mode": mode,
            "retention": _mean(row.retention for row in rows),
            **{name: _mean(row.measures[name] for row in rows) for name in _followed()},
            "committee_size": _mean(float(len(row.committee)) for row in rows),
            "fallback_layers": sum(row.fallback for row in rows),
        }


def budget_sweep(
    trace: Trace,
    domains: Domains,
    config: AuditConfig,
    ks: Iterable[int],
    moe: MoE | None = None,
    *,
    kept: Sequence[int] | None = None,
    run: RunFolder | None = None,
    listener: Listener = Listener(),
) -> BudgetSweep:
    """Committee, measures and retention at each K of `ks`.

    Args:
        trace: a finished trace; its token ids are the prompts of a rerun.
        domains: each sample's domain, in the order of the trace's `index`.
        config: kind, scope, presence and batching. A recut of any kind but `gate` ranks contributions that were
            captured with the model's own K, to which other experts do not contribute.
        ks: budgets; the model's own K may be left out.
        moe: the model, for reruns; without it there are none, and `missing` states it.
        kept: indices of the domains that count; None: all.
        run: the run folder where the contributions of each rerun are stored, so that an interrupted sweep resumes.
        listener: receives progress after each batch of a rerun, and a note on a stored one that is computed again.

    Raises:
        RecipeError: no K, or one that is not 1…E in every layer.
    """
    chosen = checked_budgets((layer.experts for layer in trace.layers), ks)
    rows = [*range(len(domains))] if kept is None else list(kept)
    own = {layer.layer: layer.top_k for layer in trace.layers}
    stored = {x.layer: _contribution(read_values(trace, x, config.scope), config.kind, domains) for x in trace.layers}
    reference = {n: set(ops.committee(c[rows], own[n], config.presence).members.tolist()) for n, c in stored.items()}

    def at(mode: Mode, k: int, contribution: dict[int, Tensor]) -> list[BudgetRow]:
        return [_row(n, k, mode, c[rows], reference[n], config.presence) for n, c in contribution.items()]

    rows_of_sweep = [row for k in chosen for row in at("recut", k, stored)]
    missing = _NO_MODEL if moe is None else None
    try:
        for k in chosen if moe is not None else ():
            assert moe is not None
            same = all(k == layer.top_k for layer in moe.layers)
            rerun = stored if same else _stored_rerun(moe, k, trace, domains, config, run, listener)
            rows_of_sweep += at("rerun", k, rerun)
    except ModelError as error:  # a family whose K cannot be changed: the recut is reported alone, with the reason
        missing, rows_of_sweep = str(error), [row for row in rows_of_sweep if row.mode == "recut"]
    return BudgetSweep(tuple(chosen), own, tuple(rows_of_sweep), missing)


def checked_budgets(experts: Iterable[int], ks: Iterable[int]) -> list[int]:
    """The budgets in order, each once; RecipeError unless each is 1…E of every layer (`experts` are the layers' E)."""
    chosen, most = sorted(set(ks)), min(experts)
    for k in chosen:
        if not 1 <= k <= most:
            raise RecipeError("budgets", expected=f"K from 1 to {most}, the experts of a layer", received=k)
    if not chosen:
        raise RecipeError("budgets", expected="at least one K", received="none")
    return chosen


def _row(layer: int, k: int, mode: Mode, contribution_DE: Tensor, reference: set[int], presence: float) -> BudgetRow:
    committee = ops.committee(contribution_DE, k, presence)
    members = committee.members.tolist()
    measures = layer_measures(Routing(contribution_DE, k, committee.members))
    retention = len(reference & set(members)) / len(reference)
    followed = {name: measures[name] for name in _followed()}
    return BudgetRow(layer, k, mode, tuple(members), committee.fallback, followed, retention)


def _followed() -> list[str]:
    """Names of the measures that are followed over K."""
    return [name for name, measure in MEASURES.items() if measure.by_budget]


def _contribution(values: LayerValues, kind: Kind, domains: Domains) -> Tensor:
    """Contributions of one kind, [D, E]."""
    if kind == "released":
        frequency_SE = values.of("frequency")
        return ops.released(values.of("weight"), domains.label_S, len(domains), frequency_SE)
    return ops.contribution(values.of(kind), domains.label_S, len(domains))


def _stored_rerun(
    moe: MoE,
    k: int,
    trace: Trace,
    domains: Domains,
    config: AuditConfig,
    run: RunFolder | None,
    listener: Listener,
) -> dict[int, Tensor]:
    """Contributions by layer with K = `k`: as stored in the run, or from a new pass over all prompts."""
    name = f"budget_{k}"
    table = None if run is None else read_piece(run, name, _CONTRIBUTION, listener.note)
    if table is None:
        layers = _rerun(moe, k, trace, config, listener)
        contribution = {n: _contribution(values, config.kind, domains) for n, values in layers.items()}
        if run is not None:
            write_piece(run, name, _as_table(contribution, domains))
        return contribution
    by_layer = table.to_pydict()
    value, layer = torch.tensor(by_layer["contribution"], dtype=torch.float64), torch.tensor(by_layer["layer"])
    return {x.layer: value[layer == x.layer].view(len(domains), -1) for x in trace.layers}


def _rerun(moe: MoE, k: int, trace: Trace, config: AuditConfig, listener: Listener) -> dict[int, LayerValues]:
    """Routing values of the trace's prompts by layer, with `k` experts chosen for each token."""
    tokens, offsets = trace.tokens()
    prompts = [tokens[a:b].tolist() for a, b in pairwise(offsets)]
    values = {layer.layer: _empty(layer, len(prompts)) for layer in trace.layers}
    done, total = 0, len(tokens)
    with with_top_k(moe, k) as other:
        for batch in plan_batches([len(prompt) for prompt in prompts], config.token_budget):
            captured = capture(other, [prompts[i] for i in batch], padding=config.padding)
            for layer in captured.layers:
                _fill(values[layer.layer], batch, layer, captured.lengths_B, config.scope)
            done += sum(captured.lengths_B)
            listener.progress(f"rerun with K = {k}", done, total, "tokens")
    return values


def _empty(layer: TraceLayer, n_samples: int) -> LayerValues:
    shape = (n_samples, layer.experts)
    zeros = [torch.zeros(shape, dtype=torch.float64) for _ in range(3)]
    return LayerValues(zeros[0], zeros[1], zeros[2], None)


def _fill(values: LayerValues, batch: Sequence[int], layer: LayerTrace, lengths_B: Sequence[int], scope: str) -> None:
    """Write the rows of a batch, as `Trace` reads them in this scope."""
    assert values.scores_SE is not None
    assert values.weight_SE is not None
    if scope == "all":
        length_B1 = torch.tensor(lengths_B, dtype=torch.float64)[:, None]
        values.scores_SE[batch] = layer.sum_scores_BE / length_B1
        values.weight_SE[batch] = layer.sum_weights_BE / length_B1
        values.frequency_SE[batch] = layer.counts_BE / length_B1
        return
    ends_B = torch.tensor(lengths_B).cumsum(0) - 1
    chosen_BK, rows = layer.chosen_TK.long()[ends_B], torch.tensor(batch)[:, None]
    values.scores_SE[batch] = layer.scores_BE.double()
    values.weight_SE[rows, chosen_BK] = layer.weights_BK.double()
    values.frequency_SE[rows, chosen_BK] = 1.0


def _as_table(contribution: dict[int, Tensor], domains: Domains) -> pa.Table:
    rows = [
        (n, domains.names[d], e, x)
        for n, contribution_DE in contribution.items()
        for d, contribution_E in enumerate(contribution_DE.tolist())
        for e, x in enumerate(contribution_E)
    ]
    columns = zip(*rows, strict=True)
    return pa.table(dict(zip(_CONTRIBUTION.names, columns, strict=True)), schema=_CONTRIBUTION)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


_INT, _FLOAT = pa.int32(), pa.float64()
_CONTRIBUTION = pa.schema([("layer", _INT), ("domain", pa.string()), ("expert", _INT), ("contribution", _FLOAT)])


def _budgets_schema() -> pa.Schema:
    columns = {
        "layer": _INT,
        "k": _INT,
        "mode": pa.string(),
        "own": pa.bool_(),
        "committee": pa.list_(_INT),
        "fallback": pa.bool_(),
        **dict.fromkeys(_followed(), _FLOAT),
        "retention": _FLOAT,
    }
    return pa.schema(list(columns.items()))
