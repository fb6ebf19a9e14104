"""Capture: run prompts through the model and record every router's choices, scores and weights.

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

_WORKERS = 4  # concurrent batches on a CPU; each has activations of its own


@dataclass(frozen=True)
class BatchTrace:
    """One batch: tokens of each sample, a trace of each MoE layer, and answer-letter log-probabilities or None."""

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
    """Run `prompts` (token ids) through the model as one batch and record what every router returns.

    A sample's figures depend neither on the rest of the batch nor on the side of the padding nor on the experts
    implementation, beyond float tolerance. The model is unchanged afterwards.

    Args:
        moe: the model.
        prompts: token ids of each sample, none empty.
        letters: token ids of each sample's answer letters. With None the forward ends at the last router and the
            language-model head does not run.
        padding: right padding needs no attention mask, which is exact for causal attention; left padding has one.
        experts: the experts implementation during the forward, on a CPU; None keeps the model's own.
        inputs: also keep each router's input at the last token.

    Raises:
        RoutingError: a router was called twice or not at all, broke its contract, or returned NaN or infinity; names
            the layer, and for NaN and infinity the sample.
        ModelError: letters were given and the model has no language-model head.
    """
    if not prompts or not all(len(prompt) for prompt in prompts):
        raise ValueError("capture needs at least one prompt, and no empty ones")
    batch = pad(prompts, padding, moe.model.get_input_embeddings().weight.device)
    reader = RoutingReader(moe, batch, stop=letters is None, keep_inputs=inputs)
    with ExitStack() as stack:
        stack.enter_context(evaluating(moe.model))
        if experts == NAME:
            stack.enter_context(fast_experts(moe.model))
            stack.enter_context(fast_linears(moe.model))
        stack.enter_context(real_tokens(batch.mask.reshape(-1)) if batch.padded else nullcontext())
        stack.enter_context(reader.attached())
        stack.enter_context(torch.inference_mode())
        logits_BV = _forward(moe, batch, stack)
    return BatchTrace(
        lengths_B=batch.lengths_B,
        layers=reader.traces(),
        choice_logprobs=None if letters is None or logits_BV is None else choice_logprobs(logits_BV, letters),
    )


def _forward(moe: MoE, batch: PaddedBatch, stack: ExitStack) -> Tensor | None:
    """Run the forward; logits [B, V] at each sample's last token, None if it ended at the last router."""
    last_B = batch.last_B % batch.ids.shape[1]
    head = moe.model.get_output_embeddings()
    if head is not None:
        stack.enter_context(last_token_only(head, last_B))
    try:
        output = moe.model(**batch.model_inputs(), use_cache=False)
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
    """`capture` of each batch, in order; on a CPU several batches run concurrently, each on one core or more.

    Cores with batches of their own never wait for each other inside a product, which keeps all of them busy on a shared
    machine and for a model of small products. The number of concurrent batches depends on PyTorch's thread count alone,
    so that one machine always computes the same figures.

    Args:
        moe: the model.
        batches: token ids of each batch's prompts, grouped by `plan_batches`.
        letters: for each batch the `letters` of `capture`.
        padding: as in `capture`.
        inputs: as in `capture`.

    Raises:
        ModelError: as `capture`, when the batch's trace is due.
    """

    def one(number: int) -> BatchTrace:
        own = None if letters is None else letters[number]
        return capture(moe, batches[number], letters=own, padding=padding, inputs=inputs)

    threads, workers = torch.get_num_threads(), _workers(moe.model)
    if workers == 1:
        yield from map(one, range(len(batches)))
        return
    with ExitStack() as stack:
        for prepared in (
            in_evaluation_mode,
            fast_experts,
            fast_linears,
        ):  # once for all batches, so that no worker undoes them
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
    """Number of concurrent batches: 1 unless all weights are in CPU memory."""
    resident = all(t.device.type == "cpu" for t in model.parameters())
    return min(torch.get_num_threads(), _WORKERS) if resident else 1
