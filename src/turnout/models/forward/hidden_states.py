"""Hidden states of a forward: the mean last hidden state of texts, and the inputs of every layer's experts.

Shapes: N texts, T tokens, E routed experts, K experts chosen a token, H hidden size.
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
from turnout.models.wrap.contract import EXPECTED, contract_violation, evaluating


def mean_hidden(moe: MoE, texts: Sequence[Sequence[int]], token_budget: int) -> Tensor:
    """Mean last hidden state of each text over its tokens, [N, H] float32; texts are token ids, none empty."""
    means: list[Tensor | None] = [None] * len(texts)
    with evaluating(moe.model), fast_experts(moe.model), fast_linears(moe.model):
        for batch in plan_batches([len(ids) for ids in texts], token_budget):
            for i, mean_H in zip(batch, _means(moe, [texts[i] for i in batch]), strict=True):
                means[i] = mean_H
    return torch.stack([mean_H for mean_H in means if mean_H is not None])


def _means(moe: MoE, texts: Sequence[Sequence[int]]) -> Iterator[Tensor]:
    batch = pad(texts, "right", moe.model.get_input_embeddings().weight.device)
    with real_tokens(batch.mask.reshape(-1)):
        hidden = moe.model.base_model(**batch.model_inputs(), use_cache=False).last_hidden_state
    real_TH = hidden.flatten(0, 1).index_select(0, batch.token_T.to(hidden.device)).float().cpu()
    return (part.mean(0) for part in real_TH.split(batch.lengths_B))


@dataclass(frozen=True, eq=False)
class ExpertInputs:
    """One layer's expert inputs and routing, prompt after prompt; on the layer's device, valid during the call only.

    Attributes:
        layer: the layer.
        inputs_TH: the experts' input.
        logits_TE: the router's logits.
        chosen_TK: the experts that the router chose, the largest weight first.
        sample_T: index of the prompt that each token belongs to.
    """

    layer: MoELayer
    inputs_TH: Tensor
    logits_TE: Tensor
    chosen_TK: Tensor
    sample_T: Tensor


class _StopForward(Exception):  # noqa: N818  not an error: ends the forward
    """Ends a forward before its last layer's experts run: nothing after their input is needed."""


def visit_experts(
    moe: MoE,
    prompts: Sequence[Sequence[int]],
    visit: Callable[[ExpertInputs], None],
    scope: Literal["last", "all"] = "last",
) -> None:
    """Run `prompts` (token ids, none empty) as one batch and call `visit` once for each MoE layer, in order.

    Padding is left out. The model is unchanged afterwards.

    Args:
        moe: the model.
        prompts: token ids of each sample.
        visit: called in inference mode, before the layer's experts run.
        scope: each prompt's last token, or all tokens.

    Raises:
        ModelError: a router broke its contract, or experts were not called after their router.
    """
    batch = pad(prompts, "right", moe.model.get_input_embeddings().weight.device)
    hooks = _Hooks(moe, batch, visit, scope)
    with ExitStack() as stack:
        for prepared in (evaluating, fast_experts, fast_linears):
            stack.enter_context(prepared(moe.model))
        stack.enter_context(real_tokens(batch.mask.reshape(-1)) if batch.padded else nullcontext())
        stack.enter_context(hooks.attached())
        stack.enter_context(torch.inference_mode())
        try:
            moe.model(**batch.model_inputs(), use_cache=False)
        except _StopForward:
            return
    missing = next(layer for layer in moe.layers if layer.layer not in hooks.visited)
    raise ModelError(f"layer {missing.layer}", expected="one call of its experts in a forward", received="none")


class _Hooks:
    """Hooks on the routers and the experts of one forward."""

    def __init__(self, moe: MoE, batch: PaddedBatch, visit: Callable[[ExpertInputs], None], scope: str) -> None:
        self._moe, self._batch, self._visit = moe, batch, visit
        self._row_T = batch.token_T if scope == "all" else batch.last_B
        self._sample_T = batch.sample_T if scope == "all" else torch.arange(len(batch.lengths_B))
        self._routing: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        self.visited: set[int] = set()

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Attach the hooks inside the block."""
        with ExitStack() as stack:
            for layer in self._moe.layers:
                stack.callback(layer.router.register_forward_hook(self._router_hook(layer)).remove)
                hook = layer.experts.register_forward_pre_hook(self._experts_hook(layer), with_kwargs=True)
                stack.callback(hook.remove)
            yield

    def _router_hook(self, layer: MoELayer) -> Any:
        def keep(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
            violation = contract_violation(output, self._batch.ids.numel(), layer.n_experts)
            if violation is not None:
                raise ModelError(f"layer {layer.layer}", expected=EXPECTED, received=violation)
            self._routing[layer.layer] = output

        return keep

    def _experts_hook(self, layer: MoELayer) -> Any:
        def check_and_visit(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            hidden = args[0] if args else kwargs.get("hidden_states")
            routing = self._routing.pop(layer.layer, None)
            if routing is None or not isinstance(hidden, Tensor):
                received = "experts called before it" if routing is None else "experts without hidden states"
                raise ModelError(f"layer {layer.layer}", expected="a router, then its experts", received=received)
            self._visit(self._inputs(layer, hidden, routing))
            self.visited.add(layer.layer)
            if len(self.visited) == len(self._moe.layers):
                raise _StopForward

        return check_and_visit

    def _inputs(self, layer: MoELayer, hidden: Tensor, routing: tuple[Tensor, Tensor, Tensor]) -> ExpertInputs:
        row_T = self._row_T.to(hidden.device)
        logits_TE, weights_TK, chosen_TK = (x.index_select(0, row_T.to(x.device)) for x in routing)
        order_TK = weights_TK.float().argsort(dim=1, descending=True, stable=True)
        return ExpertInputs(
            layer=layer,
            inputs_TH=hidden.reshape(-1, hidden.shape[-1]).index_select(0, row_T),
            logits_TE=logits_TE,
            chosen_TK=chosen_TK.long().gather(1, order_TK),
            sample_T=self._sample_T,
        )
