"""The handle of a coupled model: hooks that compute the layers' terms in a forward and add them to its loss.

A layer's term is computed before its experts run, inside the layer's forward, where sharded parameters are gathered.
The sum of the terms is added to the loss that the outermost model returns (`added_loss`). The terms of one forward are
kept in one `CoupledForward`; gradient checkpointing runs layers again in the backward pass, outside of any forward of
the model, and finds it there.

Shapes: N routed experts, H hidden size, I expert width.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle

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
from turnout.coupling.config import CoupleConfig
from turnout.coupling.term import Term, coupling_term
from turnout.coupling.timing import Stopwatch
from turnout.models.wrap.anatomy import MoELayer
from turnout.models.wrap.gates import gate_matrices, has_gate, router_rows

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _eager(function: _Function) -> _Function:
    """Keep `function` out of what torch.compile traces."""
    return torch.compiler.disable(function)


@dataclass(frozen=True, eq=False)
class LayerFigures:
    """Coupling of one layer in the last training forward; tensors without gradient.

    Attributes:
        term: the layer's term, before weight and reduction.
        norms_NN: M; None where the term does not need it and `Coupling.watching` is False.
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
    """A model's coupling, as `turnout.couple` returns it.

    Attributes:
        config: the settings.
        layers: numbers of the decoder layers that are coupled.
        step: optimizer steps so far, which the noise and a schedule of α depend on. It is counted; set it after
            resuming a loop of your own. `CouplingCallback` sets it to the Trainer's.
        notes: what a user should know about this model: experts without gates, routers that the paper did not test.
        added: number of training forwards whose loss contains the term.
        figures: {decoder layer: figures} of the last training forward.
        watching: whether figures that only a log needs are computed too: norms, and M where the term needs none.
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
            *(layer.router.register_forward_pre_hook(partial(self._copy_rows, layer.layer)) for layer in layers),
            *(
                layer.experts.register_forward_pre_hook(partial(self._before_experts, layer.layer), with_kwargs=True)
                for layer in layers
            ),
        ]
        self._step_counter: RemovableHandle | None = None

    @property
    def step(self) -> int:
        """Optimizer steps so far."""
        return self._step + self._stepped

    @step.setter
    def step(self, step: int) -> None:
        self._step, self._stepped = step, False

    def remove(self) -> None:
        """Remove every hook; the model's loss is its own again."""
        for handle in (*self._handles, self._step_counter):
            if handle is not None:
                handle.remove()
        self._handles, self._step_counter = [], None
        self._rows, self._forward, self._last = {}, None, None

    def __getstate__(self) -> dict[str, Any]:
        """State of a copy: it belongs to a copy of the model, counts its own steps and is in no forward."""
        return self.__dict__ | {"_step_counter": None, "_rows": {}, "_forward": None, "_last": None}

    @_eager
    def _enter(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before the model's forward: collect terms if it is a training forward with labels."""
        self._forward = None
        if self._step_counter is None:
            self._step_counter = _count_steps(self, model)
        if not (model.training and torch.is_grad_enabled()) or labels_of(model, args, kwargs) is None:
            return
        self.step = self.step  # several optimizers that share a model may all have stepped: that is one step
        self._forward = self._last = CoupledForward(self.step)

    @_eager
    def _copy_rows(self, number: int, _: nn.Module, __: object) -> None:
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
                return None  # the graph of the first run counts; this run only restores its saved tensors
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
        """The training forward in which layer `number` runs, or for which it is recomputed; None in any other."""
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


def _notes(layers: tuple[MoELayer, ...]) -> tuple[str, ...]:
    notes = []
    without = [layer.layer for layer in layers if not has_gate(layer)]
    if without:
        notes.append(f"experts without a gate in layers {without}: their first matrix is coupled instead")
    other = [layer.layer for layer in layers if layer.scoring != "softmax"]
    if other:
        notes.append(f"sigmoid routers in layers {other}: the paper did not test the loss on those")
    return tuple(notes)


def _count_steps(coupling: Coupling, model: nn.Module) -> RemovableHandle:
    """Count the steps of optimizers with parameters of `model`, as long as the coupling exists."""
    coupling_ref, model_ref = weakref.ref(coupling), weakref.ref(model)
    known: weakref.WeakKeyDictionary[Optimizer, bool] = weakref.WeakKeyDictionary()

    def after_step(optimizer: Optimizer, _: object, __: object) -> None:
        coupling, model = coupling_ref(), model_ref()
        if coupling is None or model is None:
            return
        if optimizer not in known:
            optimized = {id(p) for group in optimizer.param_groups for p in group["params"]}
            known[optimizer] = any(id(p) in optimized for p in model.parameters())
        coupling._stepped |= known[optimizer]

    handle = register_optimizer_step_post_hook(after_step)
    weakref.finalize(coupling, handle.remove)
    return handle
