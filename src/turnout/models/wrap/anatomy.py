"""Routers and routed experts of a transformers MoE.

There is no list of classes. A MoE layer is a module with fused `experts` (3-D weights, one matrix an expert) and a
router that returns (logits, weights, indices); a short forward of the model checks that the router does.

Shapes: T tokens, E routed experts, K experts chosen a token.
"""

import hashlib
from dataclasses import dataclass

import torch
from accelerate.utils import align_module_device
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from turnout.errors import ModelError
from turnout.models.wrap.contract import Candidate, ProbedRouter, probe
from turnout.models.wrap.families import Scoring

SHARED_KEYS = ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts")
"""What configurations call the number of shared experts."""


def routing_scores(logits_TE: Tensor, scoring: Scoring) -> Tensor:
    """Router scores p [T, E] in float32, summing to 1 over the experts.

    Sigmoid scores, and those that a router returns in place of logits, are divided by their sum.
    """
    if scoring == "softmax":
        return logits_TE.softmax(-1, dtype=torch.float32)
    scores_TE = logits_TE.float().sigmoid() if scoring == "sigmoid" else logits_TE.float()
    return scores_TE / scores_TE.sum(-1, keepdim=True)


@dataclass(frozen=True, eq=False)
class MoELayer:
    """One layer's router and routed experts.

    Attributes:
        layer: the decoder layer's own number, from 0.
        name: module path of the router inside the model.
        router: returns (logits [T, E], weights [T, K], indices [T, K]).
        experts: the fused experts module.
        n_experts: E, routed experts only.
        top_k: K, as the router returns it, which the configuration's may differ from.
        n_shared: shared experts, which every token passes; they are never counted among the E.
        scoring: the function from the router's first output to its scores.
    """

    layer: int
    name: str
    router: nn.Module
    experts: nn.Module
    n_experts: int
    top_k: int
    n_shared: int
    scoring: Scoring

    def scores(self, logits_TE: Tensor) -> Tensor:
        """Scores p [T, E] from the router's first output; see `routing_scores`."""
        return routing_scores(logits_TE, self.scoring)

    def rows(self) -> tuple[Tensor, Tensor | None] | None:
        """The router's rows R [E, H] and its bias [E] or None; None alone where it is not a single linear map."""
        weight, bias = getattr(self.router, "weight", None), getattr(self.router, "bias", None)
        if not isinstance(weight, Tensor) or weight.dim() != 2 or len(weight) != self.n_experts:
            return None
        return weight.detach(), bias.detach() if isinstance(bias, Tensor) and len(bias) == self.n_experts else None


@dataclass(frozen=True, eq=False)
class MoE:
    """A live model with its MoE layers, in the order in which a token passes them.

    Attributes:
        model: the transformers model.
        tokenizer: its tokenizer, if it has one.
        layers: the MoE layers.
        model_id: the checkpoint's name, or the model's class.
        revision: of a hub id.
        notes: what a reader of a result should know of the checkpoint: unused, dequantized or narrowed weights.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase | None
    layers: tuple[MoELayer, ...]
    model_id: str
    revision: str | None
    notes: tuple[str, ...] = ()

    @property
    def max_length(self) -> int | None:
        """The longest prompt in tokens by the model's configuration; None where that has no limit."""
        length = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return length if isinstance(length, int) and length > 0 else None

    def digest(self) -> str:
        """SHA-256 (hex) over name, shape, dtype and bytes of every parameter and saved buffer, as they are now.

        Independent of the device and of the order of modules, not of the dtype. Includes weights that accelerate has
        offloaded.
        """
        return weights_digest(self.model)

    def describe(self) -> dict[str, object]:
        """Description of the model for a manifest, JSON values; a list of values where the MoE layers differ."""
        return {
            "id": self.model_id,
            "revision": self.revision,
            "architecture": type(self.model).__name__,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "layers": [layer.layer for layer in self.layers],
            "experts": _one_or_all([layer.n_experts for layer in self.layers]),
            "top_k": _one_or_all([layer.top_k for layer in self.layers]),
            "shared": _one_or_all([layer.n_shared for layer in self.layers]),
            "max_length": self.max_length,
            "digest": self.digest(),
            **({"notes": list(self.notes)} if self.notes else {}),
        }


def read(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None = None,
    model_id: str | None = None,
    revision: str | None = None,
) -> MoE:
    """Find the routers and experts of a live transformers model, checked by one short forward.

    Raises:
        ModelError: the model is dense, or its routers or experts do not keep the contract.
    """
    name = model_id or model.config._name_or_path or type(model).__name__
    layers = tuple(_layer(model, probed) for probed in probe(model, name))
    numbers = [layer.layer for layer in layers]
    if len(set(numbers)) != len(numbers):
        raise ModelError(name, expected="one router in a decoder layer", received=f"MoE layers numbered {numbers}")
    return MoE(model, tokenizer, layers, name, revision)


def _layer(model: PreTrainedModel, probed: ProbedRouter) -> MoELayer:
    candidate = probed.candidate
    return MoELayer(
        layer=candidate.layer,
        name=probed.router_name,
        router=model.get_submodule(probed.router_name),
        experts=model.get_submodule(candidate.experts_name),
        n_experts=candidate.n_experts,
        top_k=probed.top_k,
        n_shared=_shared_experts(model, candidate),
        scoring=probed.scoring,
    )


def _shared_experts(model: PreTrainedModel, candidate: Candidate) -> int:
    """Shared experts of a layer: 0 without such a module, else the configuration's number, else 1."""
    decoder_layer = model.get_submodule(candidate.decoder_layer_name)
    has_module = any(
        "shared" in name.rpartition(".")[2]
        and "gate" not in name.rpartition(".")[2]
        and any(True for _ in m.parameters())
        for name, m in decoder_layer.named_modules()
    )
    config = model.config.get_text_config()
    numbers = [getattr(config, key, None) for key in SHARED_KEYS]
    return next((n for n in numbers if isinstance(n, int) and n > 0), 1) if has_module else 0


def weights_digest(model: nn.Module) -> str:
    """SHA-256 (hex) over the weights of any model; see `MoE.digest`."""
    digests: dict[str, str] = {}
    for prefix, module in model.named_modules():
        with align_module_device(module, "cpu"):
            for name, tensor in _own_tensors(module):
                digests[f"{prefix}.{name}".lstrip(".")] = _tensor_digest(tensor)
    listing = "\n".join(f"{name} {digest}" for name, digest in sorted(digests.items()))
    return hashlib.sha256(listing.encode()).hexdigest()


def _own_tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    """The module's own parameters and saved buffers."""
    saved = [
        (n, b) for n, b in module._buffers.items() if b is not None and n not in module._non_persistent_buffers_set
    ]
    return [(n, p) for n, p in module._parameters.items() if p is not None] + saved


def _tensor_digest(tensor: Tensor) -> str:
    digest = hashlib.sha256(f"{tuple(tensor.shape)} {tensor.dtype} ".encode())
    digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _one_or_all(values: list[int]) -> int | list[int]:
    return values[0] if len(set(values)) == 1 else values
