"""Floating-point operations of a piece of work, counted while it runs.

PyTorch's counter sees matrix products and attention, forward and backward; a multiplication and an addition are two.
Norms, activations and weighted sums are no products and are left out.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from turnout.models.forward.tail import Tail


def count(work: Callable[[], object]) -> int:
    """Operations of `work`."""
    with FlopCounterMode(display=False, custom_mapping=_MORE) as counter:
        work()
    return counter.get_total_flops()


def middling(prompts: Sequence[Sequence[int]]) -> list[int]:
    """Places of up to three prompts of middling length: operations are counted of these."""
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
    return sorted({order[len(order) * part // 4] for part in (1, 2, 3)})


def of_passes(tail: Tail, prompts: Sequence[Sequence[int]]) -> float:
    """Operations of a pass through the whole model, the head for the letters only: mean of `prompts`, each alone."""
    return sum(count(partial(tail.run_model, [prompt])) for prompt in prompts) / len(prompts)


def figures(n: int, base: float, method: float) -> dict[str, Any]:
    """What align.json says: operations of a question under the base and under the method, from `n` questions."""
    return {"questions": n, "base": base, "method": method, "ratio": method / base}


def _linear(rows: Any, weight: Any, *_: Any, **__: Any) -> int:
    """Of a product [..., in] · [out, in]ᵀ; shapes, as the counter gives them."""
    return 2 * int(torch.Size(rows).numel()) * int(weight[0])


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def _attention_backward(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:  # noqa: ARG001
    """Five products of that size where the forward has two."""
    return 5 * int(sdpa_flop_count(query, key, value)) // 2


def _operations() -> dict[Any, Any]:
    """What a CPU runs and the counter does not know: oneDNN's products and the attention kernel."""
    aten = torch.ops.aten
    known = {
        aten._scaled_dot_product_flash_attention_for_cpu: _attention,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    }
    onednn = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None
    return known if onednn is None else {**known, onednn: _linear}


_MORE = _operations()
