"""Measurement of coupling in its run folder: M of every layer, the figures on real tokens, their nulls."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from turnout import ops
from turnout.coupling.config import MeasureConfig
from turnout.coupling.norms import LayerNorms, LayerWeights, live_layers, total_experts
from turnout.coupling.pairing import Draws, mean_figure, pairing_figures
from turnout.coupling.pieces import layer_norms, remove_pieces, token_counts
from turnout.coupling.result import COUPLING_FILE, CouplingResult, experts_table, matrix_table
from turnout.coupling.tokens import TokenCounts
from turnout.errors import ModelError
from turnout.listener import Listener
from turnout.models.wrap.anatomy import MoE
from turnout.runs import RunFolder
from turnout.tasks import TaskSet, encode

KEEP = ("piece-*",)
"""Files of an unfinished measurement that are worth resuming from."""


@dataclass(frozen=True, eq=False)
class Prompted:
    """A loaded model, and the token ids of the questions that it reads."""

    moe: MoE
    tasks: TaskSet
    prompts: Sequence[Sequence[int]]

    @classmethod
    def of(cls, moe: MoE, tasks: TaskSet) -> "Prompted":
        """Encode the questions.

        Raises:
            ModelError: no tokenizer, a router without a row for each expert, or experts of an unknown layout.
        """
        if moe.tokenizer is None:
            raise ModelError(
                moe.model_id, expected="a tokenizer beside the model", received="none", do="pass tokenizer="
            )
        live_layers(moe)
        return cls(
            moe, tasks, [encode(moe.tokenizer, question, max_length=moe.max_length) for question in tasks.questions]
        )

    def describe(self) -> dict[str, Any]:
        """Name, number and digest of the token ids, as JSON."""
        sha = hashlib.sha256()
        for ids in self.prompts:
            sha.update(f"{list(ids)}\n".encode())
        return {"name": self.tasks.describe()["name"], "questions": len(self.prompts), "prompts": sha.hexdigest()}


def run(
    weights: Sequence[LayerWeights],
    prompted: Prompted | None,
    config: MeasureConfig,
    folder: RunFolder,
    listener: Listener,
    *,
    model: Mapping[str, Any],
) -> None:
    """Measure the coupling of every layer, one expert's gate in memory at a time, and complete the run.

    Args:
        weights: the layers' routers and gates, from files or from a live model.
        prompted: a loaded model with questions, for the figures on real tokens; None: none.
        config: what is measured.
        folder: an open, unfinished run; pieces that it has already are kept.
        listener: receives progress, and notes of damaged pieces.
        model: description of the model, for coupling.json and the manifest.

    Raises:
        ModelError: NaN or infinity in weights or norms; layer and expert are named.
    """
    total, done = total_experts(weights), 0

    def report(experts: int) -> None:
        nonlocal done
        done += experts
        listener.progress("reading gates", done, total, "experts")

    report(0)
    norms = [layer_norms(folder, layer, report, listener) for layer in weights]
    tokens: dict[int, dict[str, Any]] = {}
    if prompted is not None:
        parts, order = token_counts(folder, prompted.moe, prompted.prompts, config, listener)
        tokens = TokenCounts.of(parts, order).figures(config.resamples, config.seed)
    layers = [_layer(layer, config) for layer in norms]
    content = {
        "schema": CouplingResult.SCHEMA,
        "model": dict(model),
        "tasks": prompted and {**prompted.describe(), "scope": config.scope},
        "config": config.describe(),
        "overall": _overall(layers, config),
        "layers": [{**layer, "tokens": tokens.get(layer["layer"])} for layer in layers],
    }
    folder.write_table("coupling_matrix", matrix_table(norms))
    folder.write_table("experts", experts_table(norms))
    folder.write_json(COUPLING_FILE, content)
    remove_pieces(folder)
    folder.finish(model=dict(model), config=config.describe(), seed=config.seed)


def _layer(norms: LayerNorms, config: MeasureConfig) -> dict[str, Any]:
    draws = Draws.of(len(norms.norms_NN), config.permutations, config.resamples, config.seed)
    return {
        "layer": norms.layer,
        "experts": len(norms.norms_NN),
        "width": norms.width,
        "gated": norms.gated,
        "noise_bound": mean_figure(norms.bound_N, draws),
        "raw": pairing_figures(norms.norms_NN, config.alphas, draws),
        "scale_free": pairing_figures(norms.scale_free, config.alphas, draws),
    }


def _overall(layers: Sequence[Mapping[str, Any]], config: MeasureConfig) -> dict[str, Any]:
    """Means over layers; `coupled_layers`: layers that differ from random pairings at 5 % after Holm's correction."""
    overall: dict[str, Any] = {"noise_bound": _span([layer["noise_bound"]["value"] for layer in layers])}
    for scale in ("raw", "scale_free"):
        figures = {name: [layer[scale][name] for layer in layers] for name in ("ratio", "rows", "columns")}
        losses = [[layer[scale]["loss"][a] for layer in layers] for a in range(len(config.alphas))]
        overall[scale] = {name: _over_layers(of_layers) for name, of_layers in figures.items()}
        overall[scale]["loss"] = [
            {"alpha": alpha, **_over_layers(of_layers)} for alpha, of_layers in zip(config.alphas, losses, strict=True)
        ]
    return overall


def _over_layers(figures: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    p_values = [1.0 if figure["p"] is None else figure["p"] for figure in figures]
    coupled = int((ops.holm(torch.tensor(p_values, dtype=torch.float64)) <= 0.05).sum())
    return {**_span([figure["value"] for figure in figures]), "coupled_layers": coupled}


def _span(values: Sequence[float | None]) -> dict[str, float | None]:
    known = [value for value in values if value is not None]
    if not known:
        return {"mean": None, "min": None, "max": None}
    return {"mean": sum(known) / len(known), "min": min(known), "max": max(known)}
