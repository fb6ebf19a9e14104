"""The device that a model is loaded on, and the device where its weights are."""

from typing import Any

import torch

from turnout.errors import ModelError
from turnout.models.wrap.anatomy import MoE

AUTO = "auto"
"""CUDA if there is one, then MPS, else the CPU; spread over all CUDA devices where there are several."""

Device = torch.device | str | None
"""A device, its name ("cpu", "cuda", "cuda:1", "mps"), or "auto"; None means "auto"."""


def choose_device(device: Device = AUTO) -> str:
    """The name of the device that weights are loaded on, such as "cpu", "mps" or "cuda:0".

    Returns "auto" for several CUDA devices: as a device map it spreads the layers over them.

    Raises:
        ModelError: this machine has no such device.
    """
    if device is not None and str(device) != AUTO:
        return _checked(device)
    if torch.cuda.is_available():
        return AUTO if torch.cuda.device_count() > 1 else "cuda:0"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def placement(device: Device = AUTO, device_map: str | dict[str, Any] | None = None) -> dict[str, Any]:
    """The arguments of `from_pretrained` that put the weights on `device`, or where `device_map` says.

    Raises:
        ModelError: this machine has no such device, or a device and a device map are both given.
    """
    if device_map is not None:
        if device is not None and str(device) != AUTO:
            raise ModelError("device", expected="either device or device_map", received="both")
        return {"device_map": device_map}
    name = choose_device(device)
    if name == "cpu":
        return {}
    return {"device_map": AUTO if name == AUTO else {"": name}}


def device_of(model: MoE | torch.nn.Module) -> str:
    """Where the weights of a model are: "cpu", "cuda:0", or "2 devices" where there are several.

    Weights that accelerate has offloaded count as on the CPU or the disk.
    """
    module = model.model if isinstance(model, MoE) else model
    names = {str(parameter.device) for parameter in module.parameters()}
    if "meta" in names:
        names = {_name(place) for place in getattr(module, "hf_device_map", {}).values()} or names
    return names.pop() if len(names) == 1 else f"{len(names)} devices"


def _checked(device: torch.device | str) -> str:
    """The full name of a device of this machine ("cuda:0" for "cuda")."""
    try:
        result = torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError("device", expected=_EXPECTED, received=f"{device} ({reason})") from error
    if result.type == "meta":
        raise ModelError("device", expected=_EXPECTED, received="meta, which holds no weights")
    return _name(result)


_EXPECTED = 'a device of this machine, such as cpu, or "auto"'


def _name(place: torch.device | str | int) -> str:
    """The name of an entry of a device map, where a number is a CUDA device."""
    if isinstance(place, int):
        return f"cuda:{place}"
    return "cpu" if str(place).startswith("cpu") else str(place)
