"""Router adapters: float32 copies of routers for training, their files on disk, and applying them to a model.

An adapter is two files in a folder: adapter.safetensors with the trained routers' tensors and nothing else, and
adapter.json with the base model that they belong to.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from turnout.errors import ModelError
from turnout.models.wrap.anatomy import MoE, MoELayer

TENSORS, DESCRIPTION = "adapter.safetensors", "adapter.json"
SCHEMA = 1
_UNTRAINED = ("correction_bias", "expert_bias")  # these balance the choice and get no gradient


@dataclass(frozen=True, eq=False)
class RouterWeights:
    """Trainable float32 copies (leaf tensors) of routers' parameters, by the parameter's name in the model."""

    tensors: dict[str, Tensor]
    _places: dict[str, tuple[nn.Module, str]]

    @classmethod
    def of(cls, layers: Sequence[MoELayer]) -> "RouterWeights":
        """Copies of every router parameter of `layers` but a correction bias, which changes the choice alone.

        Raises:
            ModelError: a router without parameters of its own, or one whose weights accelerate has offloaded.
        """
        places: dict[str, tuple[nn.Module, str]] = {}
        for layer in layers:
            own = _parameters(layer)
            if not own:
                expected, received = "a router with weights of its own", type(layer.router).__name__
                raise ModelError(f"layer {layer.layer}", expected=expected, received=received)
            if any(_at(place).is_meta for place in own.values()):
                raise ModelError(f"layer {layer.layer}", expected="a router in memory", received="an offloaded one")
            places |= own
        tensors = {name: _at(place).detach().float().clone().requires_grad_() for name, place in places.items()}
        return cls(tensors, places)

    @property
    def dtypes(self) -> dict[str, torch.dtype]:
        """The dtype of each parameter in the model."""
        return {name: _at(place).dtype for name, place in self._places.items()}

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Inside the block the routers compute with these weights, in the model's dtype, and pass gradients to them."""
        try:
            for name, (module, attribute) in self._places.items():
                own = module._parameters[attribute]
                assert own is not None
                module.__dict__[attribute] = self.tensors[name].to(own)  # takes precedence over the parameter
            yield
        finally:
            for module, attribute in self._places.values():
                module.__dict__.pop(attribute, None)

    @torch.no_grad()
    def write(self) -> None:
        """Copy these weights into the model's parameters."""
        for name, place in self._places.items():
            _at(place).copy_(self.tensors[name])


@dataclass(frozen=True, eq=False)
class RouterAdapter:
    """Trained routers of one base model.

    Attributes:
        tensors: parameter name → trained tensor.
        base: the base model: id, revision, digest, dtype, architecture.
        layers: numbers of the trained layers.
        config: settings of the training; JSON values.
    """

    tensors: Mapping[str, Tensor]
    base: Mapping[str, Any]
    layers: tuple[int, ...]
    config: Mapping[str, Any]

    def encoded(self) -> tuple[bytes, dict[str, Any]]:
        """The bytes of adapter.safetensors and the content of adapter.json; deterministic."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(self.tensors.items())}
        described = {
            name: {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
            for name, tensor in tensors.items()
        }
        data = save(tensors)
        content = {
            "schema": SCHEMA,
            "kind": "router-adapter",
            "base": dict(self.base),
            "layers": list(self.layers),
            "tensors": described,
            "sha256": hashlib.sha256(data).hexdigest(),
            "config": dict(self.config),
        }
        return data, content

    @classmethod
    def read(cls, folder: str | PathLike[str]) -> "RouterAdapter":
        """Read the adapter in a folder, such as the run of `turnout align`.

        Raises:
            ModelError: there is no adapter, or it is damaged or of another schema.
        """
        folder = Path(folder)
        content = _content(folder)
        try:
            data = (folder / TENSORS).read_bytes()
            tensors = load(data)
        except (SafetensorError, OSError) as error:
            raise ModelError(folder / TENSORS, expected="a whole safetensors file", received=error) from error
        if content.get("sha256") not in (None, hashlib.sha256(data).hexdigest()):  # adapters of 0.1.0 have none
            expected = f"sha256 {content['sha256']}, as {DESCRIPTION} states"
            raise ModelError(folder / TENSORS, expected=expected, received="other bytes (damaged)")
        shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
        listed = {name: entry["shape"] for name, entry in content["tensors"].items()}
        if shapes != listed:
            raise ModelError(folder / TENSORS, expected=f"the tensors that {DESCRIPTION} lists", received="others")
        return cls(tensors, content["base"], tuple(content["layers"]), content["config"])

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the base whose digest is stored."""
        return getattr(torch, str(self.base["dtype"]))

    def check(self, moe: MoE) -> None:
        """Check that `moe` is this adapter's base; ModelError if its weights differ."""
        digest = moe.digest()
        if digest != self.base["digest"]:
            expected = f"the base of this adapter, {self.base['id']} with digest {str(self.base['digest'])[:12]}"
            raise ModelError(moe.model_id, expected=expected, received=f"digest {digest[:12]}")

    @torch.no_grad()
    def apply(self, moe: MoE) -> None:
        """Copy the trained routers into `moe`, in its dtype; ModelError if it lacks one of the parameters."""
        parameters = dict(moe.model.named_parameters())
        for name, tensor in self.tensors.items():
            if name not in parameters or parameters[name].shape != tensor.shape:
                raise ModelError(moe.model_id, expected=f"a parameter {name} {list(tensor.shape)}", received="none")
            parameters[name].copy_(tensor)


def _parameters(layer: MoELayer) -> dict[str, tuple[nn.Module, str]]:
    """Trainable parameters of a layer's router: name in the model → module and attribute."""
    places = {}
    for prefix, module in layer.router.named_modules(prefix=layer.name):
        for attribute, parameter in module._parameters.items():
            if parameter is not None and parameter.is_floating_point() and not attribute.endswith(_UNTRAINED):
                places[f"{prefix}.{attribute}"] = (module, attribute)
    return places


def _at(place: tuple[nn.Module, str]) -> Tensor:
    module, attribute = place
    parameter = module._parameters[attribute]
    assert parameter is not None
    return parameter


def _content(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        expected = f"a router adapter: {TENSORS} and {DESCRIPTION}"
        raise ModelError(
            folder, expected=expected, received="a folder without" if folder.is_dir() else "no such folder"
        ) from error
    except (OSError, ValueError) as error:
        raise ModelError(path, expected="JSON", received=error) from error
    if not isinstance(content, dict) or content.get("kind") != "router-adapter" or content.get("schema") != SCHEMA:
        raise ModelError(path, expected=f"a router adapter of schema {SCHEMA}", received="another JSON object")
    return content
