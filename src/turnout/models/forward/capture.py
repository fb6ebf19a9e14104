"""Capture: prompts through the model, and what every router returned for them.

Shapes: B samples of a batch, V vocabulary.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from turnout.errors import ModelError
from turnout.models.fast.experts import NAME, fast_experts, real_tokens
from turnout.models.fast.products import fast_linears
from turnout.models.forward.answers import choice_logprobs, last_token_only
from turnout.models.forward.batches import PaddedBatch, pad
from turnout.models.forward.routing import LayerTrace, RoutingReader, StopForward
from turnout.models.wrap.anatomy import MoE
from turnout.models.wrap.contract import evaluating, in_evaluation_mode

_WORKERS = 4  # batches at a time on a CPU; each holds activations of its own


@dataclass(frozen=True)
class BatchTrace:
    """One batch: tokens of each sample, one trace a MoE layer, and log-probabilities of the answer letters if asked."""

    lengths_B: list[int]
    layers: tuple[LayerTrace, ...]
    choice_logprobs: list[list[float]] | None


def capture(
    moe: MoE,
    prompts: Sequence[Sequence[int]],
    *,
    letters: Sequence[Sequence[int]] | None = None,
    padding: Literal["right", "left"] = "right",
    experts: str | None = NAME,
    inputs: bool = False,
) -> BatchTrace:
    """Run `prompts` (token ids) through the model as one batch and read every router.

    The figures of a sample do not depend on the batch it is in, the side of the padding or the experts implementation,
    beyond float tolerance. The model is left as it was found.

    Args:
        moe: the model.
        prompts: token ids of each sample, none empty.
        letters: token ids of each sample's answer letters. With None the forward ends at the last router and the
            language-model head does not run.
        padding: right padding goes without an attention mask, which is exact for causal attention; left uses one.
        experts: the experts implementation during the forward, on a CPU; None leaves the model's own.
        inputs: also keep what each router was given at the last token.

    Raises:
        ModelError: a router spoke twice or not at all in the forward, or not as agreed.
        RoutingError: NaN or infinity in a router's logits or weights; names layer and sample.
    """
    if not prompts or not all(len(prompt) for prompt in prompts):
        raise ValueError("capture needs at least one prompt, and no empty ones")
    batch = pad(prompts, padding, moe.model.get_input_embeddings().weight.device)
    reader = RoutingReader(moe, batch, leave=letters is None, keep_inputs=inputs)
    with ExitStack() as stack:
        stack.enter_context(evaluating(moe.model))
        if experts == NAME:
            stack.enter_context(fast_experts(moe.model))
            stack.enter_context(fast_linears(moe.model))
        stack.enter_context(real_tokens(batch.mask.reshape(-1)) if batch.padded else nullcontext())
        stack.enter_context(reader.listening())
        stack.enter_context(torch.inference_mode())
        logits_BV = _forward(moe, batch, stack)
    return BatchTrace(
        lengths_B=batch.lengths_B,
        layers=reader.traces(),
        choice_logprobs=None if letters is None or logits_BV is None else choice_logprobs(logits_BV, letters),
    )


def _forward(moe: MoE, batch: PaddedBatch, stack: ExitStack) -> Tensor | None:
    """Logits [B, V] at each sample's last token; None if the forward ended at the last router."""
    last_B = batch.last_B % batch.ids.shape[1]
    head = moe.model.get_output_embeddings()
    if head is not None:
        stack.enter_context(last_token_only(head, last_B))
    try:
        output = moe.model(**batch.asked(), use_cache=False)
    except StopForward:
        return None
    if head is None:
        raise ModelError(
            moe.model_id, expected="a language-model head to score answers", received=type(moe.model).__name__
        )
    return output.logits[:, -1]


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
