"""Many batches through `capture`, several at a time where that is faster."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Literal

import torch
from torch import nn

from turnout.models.fast.experts import fast_experts
from turnout.models.fast.products import fast_linears
from turnout.models.forward.capture import BatchTrace, capture
from turnout.models.wrap.anatomy import MoE
from turnout.models.wrap.contract import in_evaluation_mode

_WORKERS = 4  # batches at a time on a CPU; each holds activations of its own


def capture_batches(
    moe: MoE,
    batches: Sequence[Sequence[Sequence[int]]],
    *,
    letters: Sequence[Sequence[Sequence[int]]] | None = None,
    padding: Literal["right", "left"] = "right",
    inputs: bool = False,
) -> Iterator[BatchTrace]:
    """`capture` of each batch, in their order; on a CPU several batches at a time, a core or more for each.

    Cores that work on batches of their own never wait for each other inside a product, so a machine that others use
    too, or a model of small products, keeps all of them busy. How many work at a time depends on PyTorch's thread count
    alone, so the same machine computes the same figures.

    Args:
        moe: the model.
        batches: token ids of each batch's prompts, as `plan_batches` groups them.
        letters: for each batch, what `capture` takes.
        padding: as in `capture`.
        inputs: as in `capture`.

    Raises:
        ModelError: as `capture`, from the batch whose turn it is.
    """

    def one(number: int) -> BatchTrace:
        asked = None if letters is None else letters[number]
        return capture(moe, batches[number], letters=asked, padding=padding, inputs=inputs)

    threads, workers = torch.get_num_threads(), _workers(moe.model)
    if workers == 1:
        yield from map(one, range(len(batches)))
        return
    with ExitStack() as stack:
        for prepared in (in_evaluation_mode, fast_experts, fast_linears):  # once for all, so that no worker undoes it
            stack.enter_context(prepared(moe.model))
        stack.callback(torch.set_num_threads, threads)
        pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads // workers,))
        stack.callback(pool.shutdown, cancel_futures=True)
        waiting: deque[Future[BatchTrace]] = deque()
        for number in range(len(batches) + workers):
            if number < len(batches):
                waiting.append(pool.submit(one, number))
            if number >= workers and waiting:
                yield waiting.popleft().result()


def _workers(model: nn.Module) -> int:
    """How many batches run at a time: one, unless the whole model lies in this machine's memory."""
    resident = all(t.device.type == "cpu" for t in model.parameters())
    return min(torch.get_num_threads(), _WORKERS) if resident else 1
