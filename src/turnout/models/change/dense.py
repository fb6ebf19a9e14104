"""A dense checkpoint's feed-forward networks, and a MoE of the counterpart family with all its other weights.

The counterpart of a dense family is the MoE family with the same attention, norms and embeddings whose router gives the
K chosen experts weights that sum to 1. `check_equal` compares the logits of such a pair.

Shapes: T tokens, E experts of a layer, K chosen, H hidden size, I width of the dense network, W width of an expert.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from turnout.errors import ModelError
from turnout.models.fast.products import fast_linears, linear
from turnout.models.wrap.anatomy import MoE, MoELayer, read
from turnout.models.wrap.contract import evaluating
from turnout.models.wrap.devices import AUTO, Device
from turnout.models.wrap.load import load_causal, quiet

_EXPERT_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_NOT_CARRIED = {"model_type", "architectures", "transformers_version", "_name_or_path", "torch_dtype", "dtype"}
_TOLERANCE = 1e-3  # relative to the largest logit: float32 sums in another order


@dataclass(frozen=True)
class Counterpart:
    """The MoE family of a dense one: its model type, and its configuration's names of E and of the expert width."""

    model_type: str
    experts: str
    width: str
    settings: Mapping[str, Any] = field(default_factory=dict)


_MIXTRAL = Counterpart("mixtral", "num_local_experts", "intermediate_size")
COUNTERPARTS: Mapping[str, Counterpart] = {
    "llama": _MIXTRAL,
    "mistral": _MIXTRAL,
    "qwen3": Counterpart("qwen3_moe", "num_experts", "moe_intermediate_size", {"norm_topk_prob": True}),
    "olmo2": Counterpart("flex_olmo", "num_experts", "intermediate_size", {"norm_topk_prob": True}),
    "granite": Counterpart("granitemoe", "num_local_experts", "intermediate_size"),
}


@dataclass(frozen=True, eq=False)
class Network:
    """The feed-forward network of a decoder layer: down · (act(gate · x) ⊙ (up · x))."""

    module: nn.Module
    gate_IH: Tensor
    up_IH: Tensor
    down_HI: Tensor
    act: Callable[[Tensor], Tensor]

    @torch.no_grad()
    def neurons(self, x_TH: Tensor) -> Tensor:
        """Activations of the neurons, the input of the down projection: act(gate · x) ⊙ (up · x), [T, I] in float32."""
        return self.act(linear(x_TH, self.gate_IH.float())) * linear(x_TH, self.up_IH.float())


@dataclass(frozen=True, eq=False)
class Dense:
    """A live dense model; `networks[i]` is the feed-forward network of decoder layer i."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    model_id: str
    revision: str | None
    networks: tuple[Network, ...]
    counterpart: Counterpart

    @property
    def width(self) -> int:
        """I, the width of a feed-forward network."""
        return self.networks[0].down_HI.shape[1]

    def without_routers(self) -> MoE:
        """The model as a `MoE` without MoE layers, for functions that use no router."""
        return MoE(self.model, self.tokenizer, (), self.model_id, self.revision)


def load_dense(
    path_or_id: str | PathLike[str],
    dtype: torch.dtype | str | None = None,
    device: Device = AUTO,
    *,
    revision: str | None = None,
) -> Dense:
    """Load a dense checkpoint that can become a MoE; arguments as in `turnout.load`.

    Raises:
        ModelError: as `turnout.load`; or the checkpoint is a MoE, of a family without counterpart, has biases or
            attention that the counterpart lacks, or has no tokenizer.
    """
    model, tokenizer, name, resolved = load_causal(path_or_id, dtype, device, revision=revision)
    counterpart = _counterpart(model, name)
    networks = tuple(_network(layer.mlp, name) for layer in model.model.layers)
    if tokenizer is None:
        raise ModelError(name, expected="a checkpoint with its tokenizer", received="none")
    return Dense(model, tokenizer, name, resolved, networks, counterpart)


def _counterpart(model: PreTrainedModel, name: str) -> Counterpart:
    config = model.config
    if any(getattr(config, key, None) for key in _EXPERT_COUNTS):
        raise ModelError(name, expected="a dense checkpoint", received=f"{config.model_type}, a MoE already")
    if config.model_type not in COUNTERPARTS:
        known = ", ".join(COUNTERPARTS)
        raise ModelError(
            name, expected=f"a dense checkpoint of one of the families {known}", received=config.model_type
        )
    if set(getattr(config, "layer_types", None) or ()) - {"full_attention"}:
        raise ModelError(name, expected="full attention in every layer", received="layers with sliding windows")
    return COUNTERPARTS[config.model_type]


def _network(module: Any, name: str) -> Network:
    projections = module.gate_proj, module.up_proj, module.down_proj
    if any(projection.bias is not None for projection in projections):
        raise ModelError(name, expected="feed-forward networks without biases", received="mlp_bias: true")
    gate_IH, up_IH, down_HI = (projection.weight.detach() for projection in projections)
    return Network(module, gate_IH, up_IH, down_HI, module.act_fn)


def new_moe(dense: Dense, n_experts: int, top_k: int, width: int) -> MoE:
    """A live MoE with all weights of `dense` but its feed-forward networks; `fill` sets routers and experts.

    Raises:
        ModelError: the counterpart family lacks a weight of the dense model (biases in its attention, say).
    """
    counterpart, model = dense.counterpart, dense.model
    known = AutoConfig.for_model(counterpart.model_type).to_dict().keys() | {"head_dim"}
    carried = {k: v for k, v in model.config.to_dict().items() if k in known and k not in _NOT_CARRIED}
    shape = {counterpart.experts: n_experts, counterpart.width: width, "num_experts_per_tok": top_k}
    config = AutoConfig.for_model(counterpart.model_type, **{**carried, **counterpart.settings, **shape})
    with quiet():
        new = AutoModelForCausalLM.from_config(config, dtype=model.dtype).to(model.device)
    new.generation_config = model.generation_config
    moe = read(new.eval(), dense.tokenizer, dense.model_id, dense.revision)
    replaced = {f"model.layers.{i}.mlp." for i in range(len(dense.networks))}
    kept = {k: v for k, v in model.state_dict().items() if not any(k.startswith(p) for p in replaced)}
    report = new.load_state_dict(kept, strict=False)
    own = {name for name, module in new.named_modules() if any(module in (x.router, x.experts) for x in moe.layers)}
    lost = sorted([*report.unexpected_keys, *(k for k in report.missing_keys if k.rpartition(".")[0] not in own)])
    if lost:
        raise ModelError(
            dense.model_id, expected=f"the weights of {counterpart.model_type} outside its experts", received=lost[0]
        )
    return moe


@torch.no_grad()
def fill(layer: MoELayer, router_EH: Tensor, gate_EWH: Tensor, up_EWH: Tensor, down_EHW: Tensor) -> None:
    """Set the router and the experts of a layer of a `new_moe`."""
    for name, value in (("gate_up_proj", torch.cat([gate_EWH, up_EWH], 1)), ("down_proj", down_EHW)):
        layer.experts.get_parameter(name).copy_(value)
    fill_router(layer, router_EH)


@torch.no_grad()
def fill_router(layer: MoELayer, router_EH: Tensor) -> None:
    """Set the router of a layer of a `new_moe`."""
    layer.router.get_parameter("weight").copy_(router_EH)


def check_equal(dense: Dense, moe: MoE, ids: Sequence[int], weight: float) -> float:
    """Largest difference between the logits of `dense` and of `moe` with *every* expert chosen at `weight`.

    Independent of the routers and of K. At the weight with which the experts add up to the dense network the difference
    is rounding alone.

    Raises:
        ModelError: it is larger than rounding: the counterpart family computes something else.
    """
    tokens = torch.tensor([list(ids)], device=dense.model.device)
    with evaluating(dense.model), evaluating(moe.model), ExitStack() as stack:
        for layer in moe.layers:
            stack.callback(layer.router.register_forward_hook(_choose_all(layer.n_experts, weight)).remove)
        logits = [model(input_ids=tokens, use_cache=False).logits.float() for model in (dense.model, moe.model)]
    difference, scale = float((logits[0] - logits[1]).abs().max()), float(logits[0].abs().max())
    coarse = torch.finfo(dense.model.dtype).eps / torch.finfo(torch.float32).eps
    if not difference <= _TOLERANCE * max(1.0, coarse / 100) * scale:
        received = f"{difference:.3g} at logits of up to {scale:.3g}"
        expected = f"logits of {dense.counterpart.model_type} equal to the dense model's with all experts chosen"
        raise ModelError(dense.model_id, expected=expected, received=f"a difference of {received}")
    return difference


def _choose_all(n_experts: int, weight: float) -> Callable[..., tuple[Tensor, ...]]:
    """A router hook that returns every expert as chosen, at `weight`."""

    def hook(_: nn.Module, __: object, output: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, ...]:
        logits_TE, weights_TK, index_TK = output
        shape = (len(logits_TE), n_experts)
        index_TE = torch.arange(n_experts, device=index_TK.device, dtype=index_TK.dtype).expand(shape)
        return logits_TE, torch.full(shape, weight, dtype=weights_TK.dtype, device=weights_TK.device), index_TE

    return hook


@torch.no_grad()
def visit(dense: Dense, windows_NT: Tensor, call: Callable[[int, Tensor], None]) -> None:
    """Run all windows [N, T] at once and call `call(i, x)` with the input of each network i, x [N·T, H] in float32.

    The language-model head does not run.
    """
    hidden = dense.model.config.hidden_size

    def hook(number: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, args: call(number, args[0].reshape(-1, hidden).float())

    with evaluating(dense.model), fast_linears(dense.model), ExitStack() as stack:
        for number, network in enumerate(dense.networks):
            stack.callback(network.module.register_forward_pre_hook(hook(number)).remove)
        dense.model.model(input_ids=windows_NT.to(dense.model.device), use_cache=False)


def save(moe: MoE, folder: str | PathLike[str]) -> None:
    """Save model and tokenizer in transformers' format."""
    assert moe.tokenizer is not None
    with quiet():
        moe.model.save_pretrained(folder)
        moe.tokenizer.save_pretrained(folder)
