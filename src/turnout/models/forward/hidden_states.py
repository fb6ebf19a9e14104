"""Hidden states inside a forward: the mean of the last ones, and the inputs of every layer's experts.

Shapes: T tokens, E routed experts, K experts chosen a token, H hidden size.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from turnout.errors import ModelError
from turnout.models.fast.experts import fast_experts, real_tokens
from turnout.models.fast.products import fast_linears
from turnout.models.forward.batches import PaddedBatch, pad, plan_batches
from turnout.models.wrap.anatomy import MoE, MoELayer
from turnout.models.wrap.contract import EXPECTED, complaint, evaluating


def mean_hidden(moe: MoE, texts: Sequence[Sequence[int]], token_budget: int) -> Tensor:
    """The mean over its tokens of each text's last hidden state [N, H], float32; texts are token ids, none empty."""
    means: list[Tensor | None] = [None] * len(texts)
    with evaluating(moe.model), fast_experts(moe.model), fast_linears(moe.model):
        for batch in plan_batches([len(ids) for ids in texts], token_budget):
            for i, mean_H in zip(batch, _means(moe, [texts[i] for i in batch]), strict=True):
                means[i] = mean_H
    return torch.stack([mean_H for mean_H in means if mean_H is not None])


def _means(moe: MoE, texts: Sequence[Sequence[int]]) -> Iterator[Tensor]:
    batch = pad(texts, "right", moe.model.get_input_embeddings().weight.device)
    with real_tokens(batch.mask.reshape(-1)):
        hidden = moe.model.base_model(**batch.asked(), use_cache=False).last_hidden_state
    real_TH = hidden.flatten(0, 1).index_select(0, batch.token_T.to(hidden.device)).float().cpu()
    return (part.mean(0) for part in real_TH.split(batch.lengths_B))


@dataclass(frozen=True, eq=False)
class ExpertInputs:
    """One layer's tokens, prompt after prompt; on the layer's device, for the time of the call only.

    Attributes:
        layer: the layer.
        inputs_TH: what its experts were given.
        logits_TE: the router's logits.
        chosen_TK: the experts that the router chose, the largest weight first.
        sample_T: which prompt of the batch each token belongs to.
    """

    layer: MoELayer
    inputs_TH: Tensor
    logits_TE: Tensor
    chosen_TK: Tensor
    sample_T: Tensor


class _AllExpertsReached(Exception):  # noqa: N818  not an error: the way out of a forward
    """Raised before the last layer's experts run: the rest of the forward would be wasted."""


def visit_experts(
    moe: MoE,
    prompts: Sequence[Sequence[int]],
    visit: Callable[[ExpertInputs], None],
    scope: Literal["last", "all"] = "last",
) -> None:
    """Run `prompts` (token ids, none empty) as one batch; `visit` is called once for each MoE layer, in its order.

    The model is left as it was found. Padding is left out.

    Args:
        moe: the model.
        prompts: token ids of each sample.
        visit: called in inference mode, before the layer's experts run.
        scope: each prompt's last token, or all.

    Raises:
        ModelError: a router or its experts did not take part as agreed.
    """
    batch = pad(prompts, "right", moe.model.get_input_embeddings().weight.device)
    listener = _Listener(moe, batch, visit, scope)
    with ExitStack() as stack:
        for prepared in (evaluating, fast_experts, fast_linears):
            stack.enter_context(prepared(moe.model))
        stack.enter_context(real_tokens(batch.mask.reshape(-1)) if batch.padded else nullcontext())
        stack.enter_context(listener.listening())
        stack.enter_context(torch.inference_mode())
        try:
            moe.model(**batch.asked(), use_cache=False)
        except _AllExpertsReached:
            return
    missing = next(layer for layer in moe.layers if layer.layer not in listener.visited)
    raise ModelError(f"layer {missing.layer}", expected="experts that run once in a forward", received="none that ran")


class _Listener:
    """Hooks on the routers and the experts of one forward."""

    def __init__(self, moe: MoE, batch: PaddedBatch, visit: Callable[[ExpertInputs], None], scope: str) -> None:
        self._moe, self._batch, self._visit = moe, batch, visit
        everything = scope == "all"
        self._row_T = batch.token_T if everything else batch.last_B
        self._sample_T = batch.sample_T if everything else torch.arange(len(batch.lengths_B))
        self._said: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        self.visited: set[int] = set()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """The hooks are on inside."""
        with ExitStack() as stack:
            for layer in self._moe.layers:
                stack.callback(layer.router.register_forward_hook(self._hear(layer)).remove)
                hook = layer.experts.register_forward_pre_hook(self._reach(layer), with_kwargs=True)
                stack.callback(hook.remove)
            yield

    def _hear(self, layer: MoELayer) -> Any:
        def hear(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
            wrong = complaint(output, self._batch.ids.numel(), layer.n_experts)
            if wrong is not None:
                raise ModelError(f"layer {layer.layer}", expected=EXPECTED, received=wrong)
            self._said[layer.layer] = output

        return hear

    def _reach(self, layer: MoELayer) -> Any:
        def reach(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            hidden = args[0] if args else kwargs.get("hidden_states")
            said = self._said.pop(layer.layer, None)
            if said is None or not isinstance(hidden, Tensor):
                received = "experts that ran before it" if said is None else "experts without hidden states"
                raise ModelError(f"layer {layer.layer}", expected="a router, then its experts", received=received)
            self._visit(self._inputs(layer, hidden, said))
            self.visited.add(layer.layer)
            if len(self.visited) == len(self._moe.layers):
                raise _AllExpertsReached

        return reach

    def _inputs(self, layer: MoELayer, hidden: Tensor, said: tuple[Tensor, Tensor, Tensor]) -> ExpertInputs:
        row_T = self._row_T.to(hidden.device)
        logits_TE, weights_TK, chosen_TK = (x.index_select(0, row_T.to(x.device)) for x in said)
        order_TK = weights_TK.float().argsort(dim=1, descending=True, stable=True)
        return ExpertInputs(
            layer=layer,
            inputs_TH=hidden.reshape(-1, hidden.shape[-1]).index_select(0, row_T),
            logits_TE=logits_TE,
            chosen_TK=chosen_TK.long().gather(1, order_TK),
            sample_T=self._sample_T,
        )
