"""Routers trained apart from their model: float32 copies while training, an adapter on disk, back into the model.

An adapter is two files in a folder: adapter.safetensors, the trained routers' tensors and nothing else, and
adapter.json, which says what base they belong to.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from turnout.errors import ModelError
from turnout.models.wrap.anatomy import MoE, MoELayer

TENSORS, DESCRIPTION = "adapter.safetensors", "adapter.json"
SCHEMA = 1
_UNTRAINED = ("correction_bias", "expert_bias")  # balance the choice; no loss reaches them


@dataclass(frozen=True, eq=False)
class RouterWeights:
    """Float32 copies of routers' parameters, by the parameter's name in the model; leaves that can be trained."""

    tensors: dict[str, Tensor]
    _places: dict[str, tuple[nn.Module, str]]

    @classmethod
    def of(cls, layers: Sequence[MoELayer]) -> "RouterWeights":
        """Of the routers of `layers`: every parameter but a correction bias, which steers the choice alone.

        Raises:
            ModelError: a router without parameters of its own, or one whose weights accelerate has offloaded.
        """
        places: dict[str, tuple[nn.Module, str]] = {}
        for layer in layers:
            found = _parameters(layer)
            if not found:
                expected, received = "a router with weights of its own", type(layer.router).__name__
                raise ModelError(f"layer {layer.layer}", expected=expected, received=received)
            if any(_at(place).is_meta for place in found.values()):
                raise ModelError(
                    f"layer {layer.layer}", expected="a router in memory", received="one that is offloaded"
                )
            places |= found
        tensors = {name: _at(place).detach().float().clone().requires_grad_() for name, place in places.items()}
        return cls(tensors, places)

    @property
    def dtypes(self) -> dict[str, torch.dtype]:
        """The model's own dtype of each."""
        return {name: _at(place).dtype for name, place in self._places.items()}

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Inside it the routers compute with these weights, in the model's own dtype, and gradients reach them."""
        try:
            for name, (module, attribute) in self._places.items():
                own = module._parameters[attribute]
                assert own is not None
                module.__dict__[attribute] = self.tensors[name].to(own)  # found before the parameter of that name
            yield
        finally:
            for module, attribute in self._places.values():
                module.__dict__.pop(attribute, None)

    @torch.no_grad()
    def write(self) -> None:
        """Put these weights into the model, for good."""
        for name, place in self._places.items():
            _at(place).copy_(self.tensors[name])


@dataclass(frozen=True, eq=False)
class RouterAdapter:
    """Trained routers of one base model.

    Attributes:
        tensors: parameter name → trained tensor.
        base: what the base is: id, revision, digest, dtype, architecture.
        layers: the layers' numbers.
        config: what it was trained with; JSON.
    """

    tensors: Mapping[str, Tensor]
    base: Mapping[str, Any]
    layers: tuple[int, ...]
    config: Mapping[str, Any]

    def encoded(self) -> tuple[bytes, dict[str, Any]]:
        """The bytes of adapter.safetensors and the content of adapter.json; the same for the same adapter."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(self.tensors.items())}
        described = {
            name: {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
            for name, tensor in tensors.items()
        }
        content = {
            "schema": SCHEMA,
            "kind": "router-adapter",
            "base": dict(self.base),
            "layers": list(self.layers),
            "tensors": described,
            "config": dict(self.config),
        }
        return save(tensors), content

    @classmethod
    def read(cls, folder: str | PathLike[str]) -> "RouterAdapter":
        """The adapter in a folder, such as an alignment's run.

        Raises:
            ModelError: no adapter there, or one that is damaged or of another schema.
        """
        folder = Path(folder)
        content = _content(folder)
        try:
            tensors = load_file(folder / TENSORS)
        except (SafetensorError, OSError) as error:
            raise ModelError(folder / TENSORS, expected="a whole safetensors file", received=error) from error
        shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
        listed = {name: said["shape"] for name, said in content["tensors"].items()}
        if shapes != listed:
            raise ModelError(folder / TENSORS, expected=f"the tensors that {DESCRIPTION} lists", received="others")
        return cls(tensors, content["base"], tuple(content["layers"]), content["config"])

    @property
    def dtype(self) -> torch.dtype:
        """The dtype in which the base's digest was taken."""
        return getattr(torch, str(self.base["dtype"]))

    def check(self, moe: MoE) -> None:
        """See that `moe` is this adapter's base; ModelError if its weights are others."""
        digest = moe.digest()
        if digest != self.base["digest"]:
            expected = f"the base of this adapter, {self.base['id']} with digest {str(self.base['digest'])[:12]}"
            raise ModelError(moe.model_id, expected=expected, received=f"digest {digest[:12]}")

    @torch.no_grad()
    def apply(self, moe: MoE) -> None:
        """Put the trained routers into `moe`, in its own dtype; ModelError if it has no such parameters."""
        parameters = dict(moe.model.named_parameters())
        for name, tensor in self.tensors.items():
            if name not in parameters or parameters[name].shape != tensor.shape:
                raise ModelError(
                    moe.model_id, expected=f"a parameter {name} {list(tensor.shape)}", received="none such"
                )
            parameters[name].copy_(tensor)


def _parameters(layer: MoELayer) -> dict[str, tuple[nn.Module, str]]:
    """Name in the model → module and attribute, of each trainable parameter of a layer's router."""
    found = {}
    for prefix, module in layer.router.named_modules(prefix=layer.name):
        for attribute, parameter in module._parameters.items():
            if parameter is not None and parameter.is_floating_point() and not attribute.endswith(_UNTRAINED):
                found[f"{prefix}.{attribute}"] = (module, attribute)
    return found


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
        raise ModelError(path, expected=f"a router adapter of schema {SCHEMA}", received="something else")
    return content
