"""How the layers' terms get into the loss that a model returns, whoever trains it and however it recomputes layers.

Shapes: T tokens of a forward.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers.utils import ModelOutput

_IGNORED = -100


@dataclass(eq=False)
class CoupledForward:
    """One training forward of the model."""

    step: int
    terms: dict[int, Tensor] = field(default_factory=dict)
    again: set[int] = field(default_factory=set)  # layers that ran without gradients: reentrant checkpointing
    coefficient: Tensor | float = 0.0  # of one layer's term in the term that is added
    slope: Tensor | None = None  # of the final loss in the term that was added, known once the backward pass began


def labels_of(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """The labels of a call of the model, already shifted or not."""
    found = kwargs.get("labels")
    if found is None and args:
        found = inspect.signature(model.forward).bind_partial(*args).arguments.get("labels")
    found = kwargs.get("shift_labels") if found is None else found
    return found if isinstance(found, Tensor) else None


def share_of_step(labels: Tensor | None, kwargs: Mapping[str, Any]) -> Tensor | float:
    """How much of the optimiser step's term this micro-batch adds: its share of the step's labels, if they are known.

    Without `num_items_in_batch` the loss is a mean, which whoever accumulates gradients divides.
    """
    n_items, shifted = kwargs.get("num_items_in_batch"), kwargs.get("shift_labels")
    if n_items is None or labels is None:
        return 1.0
    counted = labels[..., 1:] if shifted is None else shifted
    n_counted = (counted != _IGNORED).sum()
    return n_counted / (n_items.to(n_counted.device) if isinstance(n_items, Tensor) else n_items)


def total_term(forward: CoupledForward) -> Tensor:
    """The forward's terms times their coefficient; differentiable also where layers ran without gradients."""
    device = next(reversed(forward.terms.values())).device
    recorded = [term.to(device) for number, term in forward.terms.items() if number not in forward.again]
    again = [term.to(device) for number, term in forward.terms.items() if number in forward.again]
    parts = [torch.stack(recorded).sum()] if recorded else []
    if again:
        anchor = torch.zeros((), device=device, requires_grad=True)
        parts.append(_NoteSlope.apply(torch.stack(again).sum(), anchor, forward))
    return forward.coefficient * torch.stack(parts).sum()


def with_term(output: Any, total: Tensor, share: Tensor | float) -> Any:
    """`output` with the term in its loss; None if it has no loss."""
    if not isinstance(output, ModelOutput | dict):
        if not isinstance(output, tuple) or not output or not isinstance(output[0], Tensor) or output[0].dim():
            return None
        return (_sum(output[0], total * share), *output[1:])
    loss = output.get("loss")
    if loss is None:
        return None
    output["loss"] = _sum(loss, total * share)
    if _is_for_sft(output):
        # TRL's SFTTrainer takes −Σ log p over its count of labels: a label's log p carries a label's share of the term.
        log_probs = output["log_probs"]
        output["log_probs"] = log_probs - total.to(log_probs.device) * output["label_mask"]
    return output


def _sum(loss: Tensor, term: Tensor) -> Tensor:
    return loss + term.to(loss.device)


def _is_for_sft(output: Mapping[str, Any]) -> bool:
    """Whether these are the outputs that TRL's SFTTrainer, alone among its trainers, asks a model for.

    Others compare log-probabilities with each other: those must stay as they are.
    """
    given = {name for name in ("log_probs", "entropy", "is_top1", "mean_logits") if output.get(name) is not None}
    return given == {"log_probs", "entropy", "is_top1"}


def replace_first(
    args: tuple[Any, ...], kwargs: dict[str, Any], change: Callable[[Tensor], Tensor]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A call's arguments with the first of them changed, by position or by name."""
    if args:
        return (change(args[0]), *args[1:]), kwargs
    name = next(iter(kwargs))
    return args, {**kwargs, name: change(kwargs[name])}


class _NoteSlope(torch.autograd.Function):
    """Passes a sum of terms on; in the backward pass, notes how steeply the final loss depends on it.

    Reentrant checkpointing runs layers without gradients first, so that a layer's term has none there. It gets its
    gradient when the layer runs again (`Carry`), and by then this node, the last of the forward, has run.
    """

    @staticmethod
    def forward(ctx: Any, total: Tensor, anchor: Tensor, forward: CoupledForward) -> Tensor:  # noqa: ARG004
        ctx.forward = forward
        return total.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None]:
        ctx.forward.slope = grad
        return None, torch.zeros_like(grad), None


class Carry(torch.autograd.Function):
    """Passes hidden states on; in the backward pass, gives a layer's term the slope that `_NoteSlope` noted."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, term: Tensor, forward: CoupledForward) -> Tensor:
        """The hidden states."""
        ctx.forward, ctx.like = forward, term
        return hidden.view_as(hidden)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        """The hidden states' gradient, and the term's slope."""
        slope = ctx.forward.slope
        return grad, None if slope is None else slope.to(ctx.like), None
