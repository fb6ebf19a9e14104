"""`measure_coupling`: a checkpoint, read from its files, or a live model in; how coupled it is out."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from turnout import ops
from turnout.coupling.measure_config import MeasureConfig
from turnout.coupling.measure_storing import Note, log_note, stored
from turnout.coupling.norms import LayerNorms, LayerWeights, live_layers, total_experts
from turnout.coupling.pairing import Draws, mean_figure, pairing_figures
from turnout.coupling.pieces import kept_tokens, layer_piece, remove_pieces
from turnout.coupling.result import COUPLING_FILE, SCHEMA, CouplingResult, experts_table, matrix_table
from turnout.coupling.tokens import Tokens
from turnout.errors import ModelError, RecipeError
from turnout.models.checkpoint.stored import read_stored
from turnout.models.wrap.anatomy import MoE
from turnout.models.wrap.load import as_moe
from turnout.progress import Progress, silent
from turnout.runs import RunFolder
from turnout.tasks import TaskSet, encode, load_tasks

_LOADING = ("dtype", "device", "device_map", "revision", "trust_remote_code")


def measure_coupling(
    model: MoE | PreTrainedModel | str | PathLike[str],
    tasks: TaskSet | str | Path | None = None,
    out: str | Path | None = None,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    domains: str | Path | None = None,
    limit: int | None = None,
    progress: Progress = silent,
    note: Note = log_note,
    **options: Any,
) -> CouplingResult:
    """How far each router row stands for its expert (arXiv 2512.23447), without training.

    Of a checkpoint's folder or hub id only routers and gate matrices are read, one expert at a time, and no model is
    built, unless `tasks` are given: then the model is loaded too. A run that was killed goes on where it stopped; a
    complete one is read, not computed again.

    Args:
        model: a checkpoint's folder or hub id, a live transformers model, or a MoE.
        tasks: questions or texts whose tokens are looked at too; as `turnout.audit` takes them.
        out: the run's folder; None: a temporary one that goes with the result.
        tokenizer: of a live model.
        domains: how questions are placed; only for `tasks` whose subjects the default map lacks.
        limit: at most so many questions of each subject.
        progress: told how far it is.
        note: told of pieces that must be computed again and of a run that is complete already.
        **options: fields of `MeasureConfig`: alphas, permutations, resamples, scope, token_budget, seed; and what
            `turnout.load` takes: dtype, device, device_map, trust_remote_code for the model that tasks are asked of;
            revision of a hub id.

    Raises:
        TurnoutError: one line that says what could not be: the model, the questions, the options or the folder.
    """
    loading = {name: options.pop(name) for name in _LOADING if name in options}
    config = MeasureConfig.of(options)
    _check_loading(model, tasks, loading)
    asked = _Asked.of(model, tasks, tokenizer, domains, limit, loading)
    if isinstance(model, str | PathLike):
        checkpoint = read_stored(model, loading.get("revision"))
        layers, described = list[LayerWeights](checkpoint.layers), checkpoint.describe()
    else:
        moe = asked.moe if asked else as_moe(model, tokenizer, **loading)
        layers, described = list[LayerWeights](live_layers(moe)), moe.describe()
    weights = {key: value for key, value in described.items() if key not in ("id", "revision")}  # not where it lies
    inputs = {"verb": "coupling", "model": weights, "config": config.describe(), "tasks": asked and asked.describe()}

    def work(run: RunFolder) -> None:
        _measure(run, layers, described, config, asked, progress, note)

    return stored(out, inputs, work, note)


def _check_loading(model: object, tasks: object, loading: Mapping[str, Any]) -> None:
    """Refuse what says how to load a model where none is loaded."""
    for name in ("dtype", "device", "device_map", "trust_remote_code"):
        if isinstance(model, str | PathLike) and tasks is None and loading.get(name):
            raise RecipeError(
                name, expected="none without tasks: weights are read from the files", received=loading[name]
            )


@dataclass(frozen=True, eq=False)
class _Asked:
    """The model that is asked, and token ids of what it is asked."""

    moe: MoE
    tasks: TaskSet
    prompts: Sequence[Sequence[int]]

    @classmethod
    def of(
        cls,
        model: MoE | PreTrainedModel | str | PathLike[str],
        tasks: TaskSet | str | Path | None,
        tokenizer: PreTrainedTokenizerBase | None,
        domains: str | Path | None,
        limit: int | None,
        loading: Mapping[str, Any],
    ) -> "_Asked | None":
        if tasks is None:
            return None
        task_set = tasks if isinstance(tasks, TaskSet) else load_tasks(tasks, domains=domains, limit=limit)
        moe = as_moe(model, tokenizer, **loading)
        if moe.tokenizer is None:
            raise ModelError(
                moe.model_id, expected="a tokenizer beside the model", received="none", do="pass tokenizer="
            )
        live_layers(moe)
        prompts = [encode(moe.tokenizer, question, max_length=moe.max_length) for question in task_set.questions]
        return cls(moe, task_set, prompts)

    def describe(self) -> dict[str, Any]:
        """JSON; the digest is of questions and token ids."""
        sha = hashlib.sha256()
        for ids in self.prompts:
            sha.update(f"{list(ids)}\n".encode())
        described = self.tasks.describe()
        return {"name": described["name"], "questions": len(self.prompts), "prompts": sha.hexdigest()}


def _measure(
    run: RunFolder,
    weights: Sequence[LayerWeights],
    described: Mapping[str, object],
    config: MeasureConfig,
    asked: _Asked | None,
    progress: Progress,
    note: Note,
) -> None:
    """Everything that the run's folder holds, its manifest last."""
    total, done = total_experts(weights), 0

    def read(experts: int) -> None:
        nonlocal done
        done += experts
        progress("reading gates", done, total, "experts")

    read(0)
    layers = [layer_piece(run, layer, read, note) for layer in weights]
    tokens: dict[int, dict[str, Any]] = {}
    if asked is not None:
        parts, order = kept_tokens(run, asked.moe, asked.prompts, config, progress, note)
        tokens = Tokens.of(parts, order).figures(config.resamples, config.seed)
    found = [_layer(layer, config) for layer in layers]
    content = {
        "schema": SCHEMA,
        "model": dict(described),
        "tasks": asked and {**asked.describe(), "scope": config.scope},
        "config": config.describe(),
        "overall": _overall(found, config),
        "layers": [{**layer, "tokens": tokens.get(layer["layer"])} for layer in found],
    }
    run.write_table("coupling_matrix", matrix_table(layers))
    run.write_table("experts", experts_table(layers))
    run.write_json(COUPLING_FILE, content)
    remove_pieces(run)
    run.finish(model=dict(described), config=config.describe(), seed=config.seed)


def _layer(found: LayerNorms, config: MeasureConfig) -> dict[str, Any]:
    draws = Draws.of(len(found.norms_NN), config.permutations, config.resamples, config.seed)
    return {
        "layer": found.layer,
        "experts": len(found.norms_NN),
        "width": found.width,
        "gated": found.gated,
        "noise_bound": mean_figure(found.bound_N, draws),
        "raw": pairing_figures(found.norms_NN, config.alphas, draws),
        "scale_free": pairing_figures(found.scale_free, config.alphas, draws),
    }


def _overall(layers: Sequence[Mapping[str, Any]], config: MeasureConfig) -> dict[str, Any]:
    """Means over layers; `coupled_layers`: where a figure beats random pairings at 5 % after Holm's correction."""
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
