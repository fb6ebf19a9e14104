"""Size of any MoE that transformers can build, counted on a model without weights (the meta device)."""

from os import PathLike
from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from turnout.errors import ModelError
from turnout.models.checkpoint.files import checkpoint_folder, read_object
from turnout.models.checkpoint.size import Size, attention_widths
from turnout.models.wrap.anatomy import SHARED_KEYS
from turnout.models.wrap.contract import Candidate, candidates
from turnout.models.wrap.families import register_own
from turnout.ops import Parameters, layer_activations

_DOWN = ("down_proj", "w2", "output_linear")  # names of a feed-forward block's last matrix


def size_of(
    source: str | PathLike[str] | PreTrainedConfig, name: str | None = None, *, may_be_dense: bool = False
) -> Size:
    """Size of a checkpoint's folder, a config.json, a hub id (its configuration only) or a configuration.

    The model is built without weights, so that every parameter is counted as transformers creates it; of the routed
    experts K/E are active. Attention, cache and activations follow from the configuration. A dense model, accepted with
    `may_be_dense`, has E = K = 1 and no MoE layer.

    Raises:
        ModelError: no configuration, one that transformers does not know, or no MoE with fused experts.
    """
    config = source if isinstance(source, PreTrainedConfig) else read_config(source)
    name = name or _name(source, config)
    model = _without_weights(config, name)
    moe_layers = candidates(model)
    if not moe_layers and not may_be_dense:
        received = f"{type(model).__name__}, without fused experts"
        raise ModelError(name, expected="a Mixture-of-Experts model with fused experts", received=received)
    return _size(model, config.get_text_config(), moe_layers, name)


def read_config(source: str | PathLike[str]) -> PreTrainedConfig:
    """The transformers configuration of a folder, a config.json or a hub id; code in a checkpoint is never run.

    Raises:
        ModelError: there is none, or transformers does not have its model type.
    """
    path = Path(source).expanduser()
    file = path if path.is_file() else path / "config.json" if checkpoint_folder(str(source)) else None
    if file is not None:
        model_type = read_object(file).get("model_type")
        register_own(model_type)
        if model_type not in CONFIG_MAPPING:
            raise ModelError(file, expected="a model_type of transformers", received=repr(model_type))
    else:
        register_own()
    try:
        return AutoConfig.from_pretrained(str(file or source), trust_remote_code=False)
    except Exception as error:  # anything that a configuration's checks, the hub or the network raise
        expected = "a configuration that transformers can read"
        raise ModelError(source, expected=expected, received=str(error).strip() or type(error).__name__) from error


def _name(source: object, config: PreTrainedConfig) -> str:
    if isinstance(source, PreTrainedConfig):
        return str(config._name_or_path or config.model_type)
    path = Path(str(source)).expanduser()
    if path.is_file():
        path = path.parent
    return path.resolve().name if path.is_dir() else str(source)


def _without_weights(config: PreTrainedConfig, name: str) -> PreTrainedModel:
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # it changes how weights are stored, not their number
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config)
    except Exception as error:  # anything that a model's own code raises
        expected = "a causal language model that transformers can build"
        raise ModelError(name, expected=expected, received=str(error).strip() or type(error).__name__) from error


def _size(model: PreTrainedModel, config: PreTrainedConfig, moe_layers: list[Candidate], name: str) -> Size:
    experts = top_k = 1
    expert_width = int(config.intermediate_size) if not moe_layers else 0
    if moe_layers:
        experts = _same({candidate.n_experts for candidate in moe_layers}, name, "number of experts")
        top_k = _same({_top_k(model, candidate, name) for candidate in moe_layers}, name, "number of chosen experts")
        expert_width = _same(
            {_expert_width(model, candidate, config) for candidate in moe_layers}, name, "width of experts"
        )
    counted, routed, products = _parameters(model, moe_layers, top_k, experts)
    attention, cache, stored, notes = attention_widths(config)
    return Size(
        name=name,
        width=config.hidden_size,
        layers=config.num_hidden_layers,
        moe_layers=len(moe_layers),
        experts=experts,
        top_k=top_k,
        shared=_shared(config, moe_layers),
        expert_width=expert_width,
        vocab=config.vocab_size,
        parameters=counted,
        routed=routed,
        active_products=products,
        attention_widths=attention,
        cache_widths=cache,
        activations=_activations(model, config, moe_layers, stored, top_k, expert_width),
        notes=notes,
    )


def _parameters(
    model: PreTrainedModel, moe_layers: list[Candidate], top_k: int, experts: int
) -> tuple[Parameters, int, int]:
    """Total and active parameters, parameters of all routed experts, and active weights that multiply a token."""
    in_experts = {p for layer in moe_layers for p in model.get_submodule(layer.experts_name).parameters()}
    embeddings, products, total, routed = _embeddings(model), 0, 0, 0
    for name, parameter in model.named_parameters():
        n = parameter.numel()
        total += n
        routed += n if parameter in in_experts else 0
        if _multiplies(name, parameter) and not _only_looked_up(parameter, model):
            products += n * top_k // experts if parameter in in_experts else n
    active = total - routed + routed * top_k // experts
    return Parameters(total, active, total - embeddings, active - embeddings), routed, products


def _same(values: set[int], name: str, what: str) -> int:
    if len(values) != 1:
        raise ModelError(name, expected=f"the same {what} in every MoE layer", received=sorted(values))
    return values.pop()


def _top_k(model: nn.Module, candidate: Candidate, name: str) -> int:
    """K, the attribute `top_k` of the experts' router."""
    for sibling in candidate.siblings:
        top_k = getattr(model.get_submodule(sibling), "top_k", None)
        if isinstance(top_k, int):
            return top_k
    where = f"{name}: layer {candidate.layer}"
    raise ModelError(where, expected="a router with the attribute top_k", received="none")


def _expert_width(model: nn.Module, candidate: Candidate, config: PreTrainedConfig) -> int:
    down = model.get_submodule(candidate.experts_name).get_parameter("down_proj")
    return down.numel() // (candidate.n_experts * int(config.hidden_size))


def _embeddings(model: PreTrainedModel) -> int:
    """Parameters of the input and output embeddings; tied ones are counted once."""
    modules = (model.get_input_embeddings(), model.get_output_embeddings())
    return sum(p.numel() for p in {module.weight for module in modules if module is not None})


def _multiplies(name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter is a matrix, a stack of them or a convolution's kernel; no norm's weight, no bias."""
    return parameter.dim() >= 2 and not name.endswith("bias")


def _only_looked_up(parameter: nn.Parameter, model: PreTrainedModel) -> bool:
    head = model.get_output_embeddings()
    return parameter is model.get_input_embeddings().weight and (head is None or head.weight is not parameter)


def _shared(config: PreTrainedConfig, moe_layers: list[Candidate]) -> int:
    """Shared experts: 0 without such a module, else the configuration's number, else 1."""
    has = any("shared_expert" in sibling.rpartition(".")[2] for layer in moe_layers[:1] for sibling in layer.siblings)
    numbers = (getattr(config, name, None) for name in SHARED_KEYS)
    return next((n for n in numbers if isinstance(n, int) and n > 0), 1) if has else 0


def _activations(
    model: nn.Module,
    config: PreTrainedConfig,
    moe_layers: list[Candidate],
    stored: list[int],
    top_k: int,
    expert_width: int,
) -> int:
    """Numbers kept per token in all layers for the backward pass (`layer_activations`)."""
    routed = {candidate.layer for candidate in moe_layers}
    always = dict.fromkeys(range(config.num_hidden_layers), 0)
    for name, module in model.named_modules():
        layer = next((int(part) for part in name.split(".") if part.isdigit()), None)
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in _DOWN and layer is not None:
            always[layer] += module.in_features
    return sum(
        layer_activations(
            width=config.hidden_size,
            attention=stored[layer],
            chosen=top_k if layer in routed else 0,
            hidden=hidden + (top_k * expert_width if layer in routed else 0),
            experts=moe_layers[0].n_experts if layer in routed else 0,
        )
        for layer, hidden in always.items()
    )
