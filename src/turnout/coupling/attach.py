"""The coupling term in a model's own loss: hooks that compute it layer by layer, and take it away again.

A layer's term is made before its experts run, inside the layer's forward, where sharded parameters are gathered. The
terms are added to the loss that the outermost model returns (`added_loss`). What a forward of the model noted lives in
one `CoupledForward`; gradient checkpointing runs layers again in the backward pass, outside of any forward of the
model, and finds it there.

Shapes: T tokens of a forward, batch · length flattened; N experts, H hidden size.
"""

import weakref
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from turnout import ops
from turnout.coupling.added_loss import (
    Carry,
    CoupledForward,
    labels_of,
    replace_first,
    share_of_step,
    total_term,
    with_term,
)
from turnout.coupling.config import Alpha, CoupleConfig, Place
from turnout.coupling.places import check_place
from turnout.coupling.term import Term, coupling_term
from turnout.coupling.timing import Stopwatch
from turnout.errors import ModelError
from turnout.models.wrap.anatomy import MoE, MoELayer, read
from turnout.models.wrap.gates import gate_matrices, has_gate, router_rows

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _eager(function: _Function) -> _Function:
    """`function` outside of what torch.compile traces."""
    return torch.compiler.disable(function)


@dataclass(frozen=True, eq=False)
class LayerFigures:
    """What a layer's coupling was at the last training forward; tensors without gradient.

    Attributes:
        term: the layer's term, before weight and reduction.
        norms_NN: M; None where neither the term nor `Coupling.watching` asked for it.
        bound_N: ε of each router row.
        router_norm: ‖R‖_F; None unless `Coupling.watching`.
        gate_norm: ‖W_g‖_F over all experts; None unless `Coupling.watching`.
    """

    term: Tensor
    norms_NN: Tensor | None
    bound_N: Tensor
    router_norm: Tensor | None = None
    gate_norm: Tensor | None = None


class Coupling:
    """A model's coupling, as `couple` returns it.

    Attributes:
        config: what was asked for.
        layers: decoder layers that are coupled.
        step: optimiser steps so far, which the noise and a schedule of α depend on. It counts by itself; set it after
            resuming a loop of your own. `CouplingCallback` sets it from the Trainer's.
        notes: what a user should know of this model: experts without gates, routers that the paper did not test.
        added: training forwards whose loss got the term.
        figures: {decoder layer: figures} of the last training forward.
        watching: also note what only a log wants: norms, and M where the term needs none.
        stopwatch: time spent on the term.
    """

    def __init__(self, model: nn.Module, layers: tuple[MoELayer, ...], config: CoupleConfig) -> None:
        self.config = config
        self.layers = tuple(layer.layer for layer in layers)
        self.added, self.watching = 0, False
        self.notes = _notes(layers)
        self.figures: dict[int, LayerFigures] = {}
        self.stopwatch = Stopwatch()
        self._by_number = {layer.layer: layer for layer in layers}
        self._rows: dict[int, Tensor] = {}
        self._step, self._stepped = 0, False
        self._forward: CoupledForward | None = None
        self._last: CoupledForward | None = None
        self._handles = [
            model.register_forward_pre_hook(self._enter, with_kwargs=True),
            model.register_forward_hook(self._leave, with_kwargs=True, always_call=True),
            *(layer.router.register_forward_pre_hook(partial(self._note_rows, layer.layer)) for layer in layers),
            *(
                layer.experts.register_forward_pre_hook(partial(self._before_experts, layer.layer), with_kwargs=True)
                for layer in layers
            ),
        ]
        self._counting: RemovableHandle | None = None

    @property
    def step(self) -> int:
        """Optimiser steps so far."""
        return self._step + self._stepped

    @step.setter
    def step(self, step: int) -> None:
        self._step, self._stepped = step, False

    def remove(self) -> None:
        """Take every hook away; the model is as it was."""
        for handle in (*self._handles, self._counting):
            if handle is not None:
                handle.remove()
        self._handles, self._counting = [], None
        self._rows, self._forward, self._last = {}, None, None

    def __getstate__(self) -> dict[str, Any]:
        """Of a copy, which belongs to a copy of the model: it counts its own steps and is in no forward."""
        return self.__dict__ | {"_counting": None, "_rows": {}, "_forward": None, "_last": None}

    @_eager
    def _enter(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before the model's forward: begin to collect, if it is a training one with labels."""
        self._forward = None
        if self._counting is None:
            self._counting = _count_steps(self, model)
        if not (model.training and torch.is_grad_enabled()) or labels_of(model, args, kwargs) is None:
            return
        self.step = self.step  # of several optimisers that share a model, all may have stepped: that is one step
        self._forward = self._last = CoupledForward(self.step)

    @_eager
    def _note_rows(self, number: int, _: nn.Module, __: object) -> None:
        """Before a router: copy its rows, which may be gathered only while it runs."""
        if self._current(number) is not None:
            self._rows[number] = router_rows(self._by_number[number]).clone()

    @_eager
    def _before_experts(
        self, number: int, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Before a layer's experts: compute its term; in a recomputation, again, from the same noise."""
        forward = self._current(number)
        if forward is None or (not self.config.weight and not self.watching):
            return None
        layer = self._by_number[number]
        rows_NH = self._rows.pop(number)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.weight > 0):
            term = self._timed_term(rows_NH, layer, forward.step)
        if self._forward is None:
            if number not in forward.again:
                return None  # the first run's graph is the one that counts; this one only restores what it saved
            return replace_first(args, kwargs, lambda hidden: Carry.apply(hidden, term.loss, forward))
        forward.terms[number] = term.loss
        if not torch.is_grad_enabled():
            forward.again.add(number)
        self.figures[number] = self._figures_of(term, rows_NH, gate_matrices(layer))
        return None

    @_eager
    def _leave(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        """After the model's forward: add the term to the loss that it returns."""
        forward, self._forward = self._forward, None
        if forward is None or output is None or not forward.terms or not self.config.weight:
            return None
        share = share_of_step(labels_of(model, args, kwargs), kwargs)
        forward.coefficient = self.config.weight / (len(forward.terms) if self.config.reduction == "mean" else 1)
        total = total_term(forward)
        forward.terms.clear()
        changed = with_term(output, total, share)
        self.added += changed is not None
        return changed

    def _current(self, number: int) -> CoupledForward | None:
        """The forward that layer `number` runs in or is recomputed for; None if it is no training forward's."""
        if self._forward is not None:
            return self._forward
        recomputed = torch._C._current_graph_task_id() != -1 and torch.is_grad_enabled()
        return self._last if recomputed and number in self.figures else None

    def _timed_term(self, rows_NH: Tensor, layer: MoELayer, step: int) -> Term:
        start = self.stopwatch.mark(rows_NH.device)
        term = coupling_term(rows_NH, layer, self.config, step)
        self.stopwatch.add(start, rows_NH.device)
        if self._forward is not None and term.node is not None:
            self.stopwatch.time_backward(term.loss, term.node)
        return term

    @torch.no_grad()
    def _figures_of(self, term: Term, rows_NH: Tensor, gate_NHI: Tensor) -> LayerFigures:
        loss, norms_NN = term.loss.detach(), term.norms_NN
        if not self.watching:
            return LayerFigures(loss, norms_NN, term.bound_N)
        if norms_NN is None:
            norms_NN = ops.activation_norms(rows_NH, gate_NHI)
        router_norm = torch.linalg.vector_norm(rows_NH, dtype=norms_NN.dtype)
        gate_norm = torch.linalg.vector_norm(ops.matrix_lengths(gate_NHI))
        return LayerFigures(loss, norms_NN, term.bound_N, router_norm, gate_norm)


def couple(
    model: PreTrainedModel | MoE | nn.Module,
    alpha: Alpha = 1.0,
    weight: float = 1.0,
    *,
    gradient: Literal["both", "router", "gate"] = "both",
    reduction: Literal["mean", "sum"] = "mean",
    noise: bool = True,
    pairing: Literal["own", "permuted"] = "own",
    normalised: bool = False,
    layers: Collection[int] | None = None,
    seed: int = 0,
    place: Place = "gate",
    term: Literal["erc", "orthogonality"] = "erc",
) -> Coupling:
    """Make a MoE add the ERC loss (arXiv 2512.23447) to its own loss whenever it trains; in place.

    >>> turnout.couple(model, alpha=1.0, weight=1.0)
    >>> loss = model(input_ids=ids, labels=ids).loss  # with the term, if model.training; logits are untouched

    It works in a plain loop, transformers' Trainer, TRL's SFTTrainer and accelerate, with DDP and FSDP2. The term is
    counted once an optimiser step under gradient accumulation: in a loop that divides each loss by the number of
    micro-batches, and with `num_items_in_batch`, which Trainer gives. Nothing is added in evaluation, under `no_grad`
    and without labels. The model's state dict does not change.

    Args:
        model: a transformers model, a MoE, or a PEFT model: the outermost one whose loss is used.
        alpha: α, at least 0; a mapping from decoder layer, or a function of the optimiser step.
        weight: of the term beside the model's own loss; 0 adds nothing and only notes figures for the callback.
        gradient: what learns from the term: router rows and gate matrices, or one of the two.
        reduction: mean or sum over layers.
        noise: proxies are router rows with noise; False is the paper's ablation.
        pairing: "permuted" pairs each proxy with another expert, a control.
        normalised: M for rows and matrices of length 1, so that shrinking weights is no way out.
        layers: decoder layers to couple; None: every MoE layer.
        seed: of noise and permutation.
        place: where in an expert M is read.
        term: "orthogonality" of the router's rows instead, a baseline.

    Returns:
        The handle: `.step`, `.notes`, `.figures`; `uncouple(model)` undoes it.

    Raises:
        ModelError: a dense model, one whose routers or experts do not fit, one that is coupled already, or one that
            is sharded already: couple it before `fully_shard`.
        RecipeError: an option that does not fit.
    """
    config = CoupleConfig(
        alpha=alpha,
        weight=weight,
        gradient=gradient,
        reduction=reduction,
        noise=noise,
        pairing=pairing,
        normalised=normalised,
        layers=None if layers is None else tuple(layers),
        seed=seed,
        place=place,
        term=term,
    )
    return couple_as(model, config)


def couple_as(model: PreTrainedModel | MoE | nn.Module, config: CoupleConfig) -> Coupling:
    """`couple` with all options in one object."""
    outer: Any = model.model if isinstance(model, MoE) else model
    if coupling_of(outer) is not None:
        raise ModelError(
            "couple", expected="a model that is not coupled", received="a coupled one", do="uncouple it first"
        )
    return Coupling(outer, _chosen(model if isinstance(model, MoE) else _read(outer), config), config)


def uncouple(model: PreTrainedModel | MoE | nn.Module) -> None:
    """Undo `couple`: the model's loss is its own again.

    Raises:
        ModelError: the model is not coupled.
    """
    coupling = coupling_of(model.model if isinstance(model, MoE) else model)
    if coupling is None:
        raise ModelError("uncouple", expected="a coupled model", received="one that is not")
    coupling.remove()


def coupling_of(model: nn.Module) -> Coupling | None:
    """The coupling of `model` or of a model that it wraps; None if there is none."""
    hooks = (hook for module in model.modules() for hook in module._forward_pre_hooks.values())
    found = (getattr(hook, "__self__", None) for hook in hooks)
    return next((owner for owner in found if isinstance(owner, Coupling)), None)


def _read(outer: Any) -> MoE:
    """The MoE inside `outer`; a short forward tries it, which leaves off half-way and so must not meet shards."""
    if any(isinstance(parameter, DTensor) for parameter in outer.parameters()):
        expected = "a model that is not sharded yet"
        raise ModelError("couple", expected=expected, received="a sharded one", do="couple it before fully_shard")
    return read(outer.get_base_model() if hasattr(outer, "get_base_model") else outer)


def _chosen(moe: MoE, config: CoupleConfig) -> tuple[MoELayer, ...]:
    """The layers to couple, each with rows and matrices that fit."""
    there = {layer.layer: layer for layer in moe.layers}
    wanted = list(there) if config.layers is None else list(dict.fromkeys(config.layers))
    missing = next((number for number in wanted if number not in there), None)
    if missing is not None or not wanted:
        raise ModelError(
            "layers", expected=f"MoE layers, of {list(there)}", received="none" if missing is None else missing
        )
    for number in wanted:
        layer = there[number]
        rows_NH, gate_NHI = router_rows(layer), gate_matrices(layer)
        if rows_NH.shape != gate_NHI.shape[:2]:
            expected = f"gate matrices for router rows of {rows_NH.shape[1]} numbers"
            raise ModelError(f"layer {number}", expected=expected, received=f"ones of {gate_NHI.shape[1]} rows")
        check_place(layer, config.place)
        config.alpha_at(number, 0)
    return tuple(there[number] for number in wanted)


def _notes(layers: tuple[MoELayer, ...]) -> tuple[str, ...]:
    said = []
    without = [layer.layer for layer in layers if not has_gate(layer)]
    if without:
        said.append(f"experts without a gate in layers {without}: their first matrix is coupled in its place")
    other = [layer.layer for layer in layers if layer.scoring != "softmax"]
    if other:
        said.append(f"sigmoid routers in layers {other}: the paper did not test the loss on those")
    return tuple(said)


def _count_steps(coupling: Coupling, model: nn.Module) -> RemovableHandle:
    """Note every step of an optimiser that holds parameters of `model`, until the coupling is gone."""
    ours, model_of = weakref.ref(coupling), weakref.ref(model)
    known: weakref.WeakKeyDictionary[Optimizer, bool] = weakref.WeakKeyDictionary()

    def after_step(optimizer: Optimizer, _: object, __: object) -> None:
        coupling, model = ours(), model_of()
        if coupling is None or model is None:
            return
        if optimizer not in known:
            theirs = {id(p) for group in optimizer.param_groups for p in group["params"]}
            known[optimizer] = any(id(p) in theirs for p in model.parameters())
        coupling._stepped |= known[optimizer]

    handle = register_optimizer_step_post_hook(after_step)
    weakref.finalize(coupling, handle.remove)
    return handle
