"""Couple a model in place: find its MoE, choose and check the layers, register the hooks."""

from typing import Any

from torch import nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from turnout.coupling.config import CoupleConfig
from turnout.coupling.handle import Coupling
from turnout.coupling.term import check_place
from turnout.errors import ModelError
from turnout.models.wrap.anatomy import MoE, MoELayer, read
from turnout.models.wrap.gates import gate_matrices, router_rows


def couple_as(model: PreTrainedModel | MoE | nn.Module, config: CoupleConfig) -> Coupling:
    """Couple `model` with the settings of `config`; see `turnout.couple`.

    Raises:
        ModelError: a dense, coupled or sharded model, or one whose routers or experts do not fit.
        RecipeError: α has no number for a layer.
    """
    outer: Any = model.model if isinstance(model, MoE) else model
    if coupling_of(outer) is not None:
        raise ModelError(
            "couple", expected="a model that is not coupled", received="a coupled one", do="uncouple it first"
        )
    moe = model if isinstance(model, MoE) else _moe_inside(outer)
    return Coupling(outer, _chosen_layers(moe, config), config)


def coupling_of(model: nn.Module) -> Coupling | None:
    """The coupling of `model`, or of a model inside it; None if there is none."""
    hooks = (hook for module in model.modules() for hook in module._forward_pre_hooks.values())
    owners = (getattr(hook, "__self__", None) for hook in hooks)
    return next((owner for owner in owners if isinstance(owner, Coupling)), None)


def _moe_inside(outer: Any) -> MoE:
    """The MoE inside `outer`, probed by a short forward that stops half-way and would leave shards gathered."""
    if any(isinstance(parameter, DTensor) for parameter in outer.parameters()):
        expected = "a model that is not sharded yet"
        raise ModelError("couple", expected=expected, received="a sharded one", do="couple it before fully_shard")
    return read(outer.get_base_model() if hasattr(outer, "get_base_model") else outer)


def _chosen_layers(moe: MoE, config: CoupleConfig) -> tuple[MoELayer, ...]:
    """The layers to couple, each with router rows and gate matrices that fit."""
    available = {layer.layer: layer for layer in moe.layers}
    chosen = list(available) if config.layers is None else list(dict.fromkeys(config.layers))
    missing = next((number for number in chosen if number not in available), None)
    if missing is not None or not chosen:
        received = "none" if missing is None else missing
        raise ModelError("layers", expected=f"MoE layers, of {list(available)}", received=received)
    for number in chosen:
        layer = available[number]
        rows_NH, gate_NHI = router_rows(layer), gate_matrices(layer)
        if rows_NH.shape != gate_NHI.shape[:2]:
            expected = f"gate matrices for router rows of {rows_NH.shape[1]} numbers"
            raise ModelError(f"layer {number}", expected=expected, received=f"ones of {gate_NHI.shape[1]} rows")
        check_place(layer, config.place)
        config.alpha_at(number, 0)
    return tuple(available[number] for number in chosen)
