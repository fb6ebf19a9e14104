"""A dense checkpoint seen as feed-forward networks, and the MoE of its sister family with the same everything else.

Each dense family goes with the MoE family whose attention, norms and embeddings are the same, and whose router gives
the K chosen experts weights that sum to 1. `check_equal` shows on a live pair that nothing was lost on the way.

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

_EXPERTS_SAID = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_NOT_CARRIED = {"model_type", "architectures", "transformers_version", "_name_or_path", "torch_dtype", "dtype"}
_CLOSE = 1e-3  # of the largest logit: what another order of float32 sums may change


@dataclass(frozen=True)
class Sister:
    """The MoE family beside a dense one: its model type, and what it calls E and the width of an expert."""

    model_type: str
    experts: str
    width: str
    settings: Mapping[str, Any] = field(default_factory=dict)


_MIXTRAL = Sister("mixtral", "num_local_experts", "intermediate_size")
SISTERS: Mapping[str, Sister] = {
    "llama": _MIXTRAL,
    "mistral": _MIXTRAL,
    "qwen3": Sister("qwen3_moe", "num_experts", "moe_intermediate_size", {"norm_topk_prob": True}),
    "olmo2": Sister("flex_olmo", "num_experts", "intermediate_size", {"norm_topk_prob": True}),
    "granite": Sister("granitemoe", "num_local_experts", "intermediate_size"),
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
        """What each neuron is worth before the down projection: act(gate · x) ⊙ (up · x), [T, I] in float32."""
        return self.act(linear(x_TH, self.gate_IH.float())) * linear(x_TH, self.up_IH.float())


@dataclass(frozen=True, eq=False)
class Dense:
    """A live dense model; `networks[i]` belongs to decoder layer i."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    model_id: str
    revision: str | None
    networks: tuple[Network, ...]
    sister: Sister

    @property
    def width(self) -> int:
        """I."""
        return self.networks[0].down_HI.shape[1]

    def without_routers(self) -> MoE:
        """The model where a `MoE` is asked for whose routers nobody looks at."""
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
        ModelError: as `turnout.load`; a MoE already, a family without a sister, biases or attention that the sister
            does not have, or no tokenizer.
    """
    model, tokenizer, name, found = load_causal(path_or_id, dtype, device, revision=revision)
    sister = _sister(model, name)
    networks = tuple(_network(layer.mlp, name) for layer in model.model.layers)
    if tokenizer is None:
        raise ModelError(name, expected="a checkpoint with its tokenizer, to read the text with", received="none")
    return Dense(model, tokenizer, name, found, networks, sister)


def _sister(model: PreTrainedModel, name: str) -> Sister:
    config = model.config
    if any(getattr(config, key, None) for key in _EXPERTS_SAID):
        raise ModelError(name, expected="a dense checkpoint", received=f"{config.model_type}, a MoE already")
    if config.model_type not in SISTERS:
        known = ", ".join(SISTERS)
        raise ModelError(
            name, expected=f"a dense checkpoint of one of the families {known}", received=config.model_type
        )
    if set(getattr(config, "layer_types", None) or ()) - {"full_attention"}:
        raise ModelError(name, expected="full attention in every layer", received="layers with sliding windows")
    return SISTERS[config.model_type]


def _network(module: Any, name: str) -> Network:
    projections = module.gate_proj, module.up_proj, module.down_proj
    if any(projection.bias is not None for projection in projections):
        raise ModelError(name, expected="feed-forward networks without biases", received="mlp_bias: true")
    gate_IH, up_IH, down_HI = (projection.weight.detach() for projection in projections)
    return Network(module, gate_IH, up_IH, down_HI, module.act_fn)


def new_moe(dense: Dense, n_experts: int, top_k: int, width: int) -> MoE:
    """A live MoE with everything of `dense` but its feed-forward networks; routers and experts are to be `fill`ed.

    Raises:
        ModelError: the sister family lacks a weight of the dense model (biases in its attention, say).
    """
    sister, model = dense.sister, dense.model
    config = AutoConfig.for_model(sister.model_type)
    said = {k: v for k, v in model.config.to_dict().items() if k not in _NOT_CARRIED}
    carried = {k: v for k, v in said.items() if k in config.to_dict() or k == "head_dim"}
    shape = {sister.experts: n_experts, sister.width: width, "num_experts_per_tok": top_k}
    config = AutoConfig.for_model(sister.model_type, **{**carried, **sister.settings, **shape})
    with quiet():
        made = AutoModelForCausalLM.from_config(config, dtype=model.dtype).to(model.device)
    made.generation_config = model.generation_config
    moe = read(made.eval(), dense.tokenizer, dense.model_id, dense.revision)
    replaced = {f"model.layers.{i}.mlp." for i in range(len(dense.networks))}
    kept = {k: v for k, v in model.state_dict().items() if not any(k.startswith(p) for p in replaced)}
    report = made.load_state_dict(kept, strict=False)
    own = {name for name, module in made.named_modules() if any(module in (x.router, x.experts) for x in moe.layers)}
    lost = sorted([*report.unexpected_keys, *(k for k in report.missing_keys if k.rpartition(".")[0] not in own)])
    if lost:
        raise ModelError(
            dense.model_id, expected=f"the weights of {sister.model_type} outside its experts", received=lost[0]
        )
    return moe


@torch.no_grad()
def fill(layer: MoELayer, router_EH: Tensor, gate_EWH: Tensor, up_EWH: Tensor, down_EHW: Tensor) -> None:
    """Put a router and experts into a layer of a `new_moe`."""
    for name, value in (("gate_up_proj", torch.cat([gate_EWH, up_EWH], 1)), ("down_proj", down_EHW)):
        layer.experts.get_parameter(name).copy_(value)
    fill_router(layer, router_EH)


@torch.no_grad()
def fill_router(layer: MoELayer, router_EH: Tensor) -> None:
    """Put a router into a layer of a `new_moe`."""
    layer.router.get_parameter("weight").copy_(router_EH)


def check_equal(dense: Dense, moe: MoE, ids: Sequence[int], weight: float) -> float:
    """The largest difference between the logits of `dense` and of `moe` with *every* expert at `weight`.

    Whatever the routers and K: with the weight at which the experts add up to the dense network, only rounding is left.

    Raises:
        ModelError: more than rounding is: the sister family computes something else from this configuration.
    """
    tokens = torch.tensor([list(ids)], device=dense.model.device)
    with evaluating(dense.model), evaluating(moe.model), ExitStack() as stack:
        for layer in moe.layers:
            stack.callback(layer.router.register_forward_hook(_choose_all(layer.n_experts, weight)).remove)
        logits = [model(input_ids=tokens, use_cache=False).logits.float() for model in (dense.model, moe.model)]
    difference, scale = float((logits[0] - logits[1]).abs().max()), float(logits[0].abs().max())
    coarse = torch.finfo(dense.model.dtype).eps / torch.finfo(torch.float32).eps
    if not difference <= _CLOSE * max(1.0, coarse / 100) * scale:
        received = f"{difference:.3g} at logits of up to {scale:.3g}"
        expected = f"logits of {dense.sister.model_type} equal to the dense model's with all experts chosen"
        raise ModelError(dense.model_id, expected=expected, received=f"a difference of {received}")
    return difference


def _choose_all(n_experts: int, weight: float) -> Callable[..., tuple[Tensor, ...]]:
    """A router's hook that has every expert chosen, at `weight`."""

    def hook(_router: nn.Module, _given: object, output: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, ...]:
        logits_TE, weights_TK, index_TK = output
        shape = (len(logits_TE), n_experts)
        index_TE = torch.arange(n_experts, device=index_TK.device, dtype=index_TK.dtype).expand(shape)
        return logits_TE, torch.full(shape, weight, dtype=weights_TK.dtype, device=weights_TK.device), index_TE

    return hook


@torch.no_grad()
def visit(dense: Dense, windows_NT: Tensor, call: Callable[[int, Tensor], None]) -> None:
    """One forward of all windows [N, T] at once; `call(i, x)` hears what network i is given, x [N·T, H] in float32.

    The language-model head is left out. What a call keeps is its own affair: here nothing is.
    """
    hidden = dense.model.config.hidden_size

    def hook(number: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, given: call(number, given[0].reshape(-1, hidden).float())

    with evaluating(dense.model), fast_linears(dense.model), ExitStack() as stack:
        for number, network in enumerate(dense.networks):
            stack.callback(network.module.register_forward_pre_hook(hook(number)).remove)
        dense.model.model(input_ids=windows_NT.to(dense.model.device), use_cache=False)


def save(moe: MoE, folder: str | PathLike[str]) -> None:
    """Write the checkpoint as transformers does, safetensors and tokenizer."""
    assert moe.tokenizer is not None
    with quiet():
        moe.model.save_pretrained(folder)
        moe.tokenizer.save_pretrained(folder)
