"""Add the layers' terms to the loss that a model returns, in any training loop and with any gradient checkpointing.

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
    """One training forward of the model.

    Attributes:
        step: optimizer steps before it.
        terms: {decoder layer: term}, in the order in which the layers ran.
        again: layers that ran without gradients, which reentrant checkpointing will run again.
        coefficient: factor of one layer's term in the term that is added.
        slope: derivative of the final loss by the term that was added, known once the backward pass has begun.
    """

    step: int
    terms: dict[int, Tensor] = field(default_factory=dict)
    again: set[int] = field(default_factory=set)
    coefficient: Tensor | float = 0.0
    slope: Tensor | None = None


def labels_of(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """The labels in the arguments of a model's forward, shifted or not; None if there are none."""
    labels = kwargs.get("labels")
    if labels is None and args:
        labels = inspect.signature(model.forward).bind_partial(*args).arguments.get("labels")
    labels = kwargs.get("shift_labels") if labels is None else labels
    return labels if isinstance(labels, Tensor) else None


def share_of_step(labels: Tensor | None, kwargs: Mapping[str, Any]) -> Tensor | float:
    """Share of the optimizer step's term that a micro-batch adds: its share of the step's labels.

    Without `num_items_in_batch` it is 1: the loss is a mean then, and gradient accumulation divides it.
    """
    n_items, shifted = kwargs.get("num_items_in_batch"), kwargs.get("shift_labels")
    if n_items is None or labels is None:
        return 1.0
    counted = labels[..., 1:] if shifted is None else shifted
    n_counted = (counted != _IGNORED).sum()
    return n_counted / (n_items.to(n_counted.device) if isinstance(n_items, Tensor) else n_items)


def total_term(forward: CoupledForward) -> Tensor:
    """Sum of a forward's terms times their coefficient; differentiable also where layers ran without gradients."""
    device = next(reversed(forward.terms.values())).device
    recorded = [term.to(device) for number, term in forward.terms.items() if number not in forward.again]
    again = [term.to(device) for number, term in forward.terms.items() if number in forward.again]
    parts = [torch.stack(recorded).sum()] if recorded else []
    if again:
        anchor = torch.zeros((), device=device, requires_grad=True)
        parts.append(_StoreSlope.apply(torch.stack(again).sum(), anchor, forward))
    return forward.coefficient * torch.stack(parts).sum()


def with_term(output: Any, total: Tensor, share: Tensor | float) -> Any:
    """A model's output with the term added to its loss; None if it has no loss."""
    if not isinstance(output, ModelOutput | dict):
        if not isinstance(output, tuple) or not output or not isinstance(output[0], Tensor) or output[0].dim():
            return None
        return (_sum(output[0], total * share), *output[1:])
    loss = output.get("loss")
    if loss is None:
        return None
    output["loss"] = _sum(loss, total * share)
    if _is_for_sft(output):
        # TRL's SFTTrainer divides −Σ log p by its count of labels: each log p takes one label's share of the term.
        log_probs = output["log_probs"]
        output["log_probs"] = log_probs - total.to(log_probs.device) * output["label_mask"]
    return output


def _sum(loss: Tensor, term: Tensor) -> Tensor:
    return loss + term.to(loss.device)


def _is_for_sft(output: Mapping[str, Any]) -> bool:
    """Whether these are the outputs that TRL's SFTTrainer requests; no other trainer of TRL requests the same ones.

    Other trainers compare log-probabilities with each other, so that those must not change.
    """
    outputs = {name for name in ("log_probs", "entropy", "is_top1", "mean_logits") if output.get(name) is not None}
    return outputs == {"log_probs", "entropy", "is_top1"}


def replace_first(
    args: tuple[Any, ...], kwargs: dict[str, Any], change: Callable[[Tensor], Tensor]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call with the first one changed, positional or named."""
    if args:
        return (change(args[0]), *args[1:]), kwargs
    name = next(iter(kwargs))
    return args, {**kwargs, name: change(kwargs[name])}


class _StoreSlope(torch.autograd.Function):
    """Identity of a sum of terms; its backward stores the derivative of the final loss by that sum.

    Reentrant checkpointing first runs layers without gradients, so that a layer's term has no graph there. The term
    gets its gradient when the layer runs again (`Carry`); this node, the last of the forward, has run by then.
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
    """Identity of hidden states; its backward gives a layer's term the slope that `_StoreSlope` stored."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, term: Tensor, forward: CoupledForward) -> Tensor:
        """The hidden states."""
        ctx.forward, ctx.like = forward, term
        return hidden.view_as(hidden)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        """The hidden states' gradient, and the term's gradient."""
        slope = ctx.forward.slope
        return grad, None if slope is None else slope.to(ctx.like), None
