"""Floating-point operations of a computation, counted by PyTorch while it runs.

Matrix products and attention are counted, forward and backward; a multiplication and an addition are two operations.
Norms, activations and weighted sums are not.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from turnout.models.change.adapter import RouterWeights
from turnout.models.forward.tail import Tail


def count(work: Callable[[], object]) -> int:
    """Operations of `work()`."""
    with FlopCounterMode(display=False, custom_mapping=_FURTHER) as counter:
        work()
    return counter.get_total_flops()


def median_prompts(prompts: Sequence[Sequence[int]]) -> list[int]:
    """Indices of up to three prompts at the quartiles of the lengths; operations are counted on these."""
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
    return sorted({order[len(order) * part // 4] for part in (1, 2, 3)})


def flops_per_pass(tail: Tail, prompts: Sequence[Sequence[int]]) -> float:
    """Operations of a forward of the whole model, the head for the letters only; mean over `prompts`, each alone."""
    return sum(count(partial(tail.run_model, [prompt])) for prompt in prompts) / len(prompts)


def flops_before_and_after(tail: Tail, weights: RouterWeights, prompts: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Operations of a question under the base and the trained routers, for align.json."""
    chosen = [prompts[i] for i in median_prompts(prompts)]
    base = flops_per_pass(tail, chosen)
    with weights.in_use():
        return flops_figures(len(chosen), base, flops_per_pass(tail, chosen))


def flops_figures(n: int, base: float, method: float) -> dict[str, Any]:
    """Operations of a question under the base and under the method, counted on `n` questions, for align.json."""
    return {"questions": n, "base": base, "method": method, "ratio": method / base}


def _linear(rows: Any, weight: Any, *_: Any, **__: Any) -> int:
    """Operations of a product [..., in] · [out, in]ᵀ, from the shapes."""
    return 2 * int(torch.Size(rows).numel()) * int(weight[0])


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def _attention_backward(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:  # noqa: ARG001
    """Operations of the backward: five products of the size of which the forward has two."""
    return 5 * int(sdpa_flop_count(query, key, value)) // 2


def _further_operations() -> dict[Any, Any]:
    """Operations of a CPU that PyTorch's counter does not know: oneDNN's products and the attention kernel."""
    aten = torch.ops.aten
    known = {
        aten._scaled_dot_product_flash_attention_for_cpu: _attention,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    }
    onednn = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None
    return known if onednn is None else {**known, onednn: _linear}


_FURTHER = _further_operations()
