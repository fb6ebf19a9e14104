"""`turnout.load`: a checkpoint folder or hub id as a MoE."""

from os import PathLike
from typing import TYPE_CHECKING, Any

from turnout.api.models import resolve_moe
from turnout.listener import Listener

if TYPE_CHECKING:
    import torch

    from turnout.models.wrap.anatomy import MoE


def load(
    path_or_id: str | PathLike[str],
    dtype: "torch.dtype | str | None" = None,
    device: "torch.device | str | None" = "auto",
    adapter: str | PathLike[str] | None = None,
    *,
    device_map: str | dict[str, Any] | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> "MoE":
    """Load a checkpoint folder or, with network, a hub id ("org/name") as a MoE.

    >>> moe = turnout.load("path/to/checkpoint", dtype="bfloat16")
    >>> moe.layers[0].n_experts, moe.layers[0].top_k

    Args:
        path_or_id: a folder with `config.json` and safetensors weights, a hub id, or "embedded".
        dtype: a torch dtype or its name ("bfloat16"); None is the checkpoint's own.
        device: "auto" (CUDA if there is one, then MPS, else CPU), or a torch device.
        adapter: a router adapter to load into the model: the run of `turnout align`, or its adapter folder.
        device_map: passed to accelerate, instead of `device`, for several devices or offloading.
        revision: branch, tag or commit of a hub id.
        trust_remote_code: run Python code of the checkpoint.

    Returns:
        The model: `.layers` (one a MoE layer, with `.layer`, `.n_experts`, `.top_k`, `.n_shared`), `.model`,
        `.tokenizer`.

    Raises:
        ModelError: no such checkpoint, a malformed, incomplete, pickled or dense one, or one that needs its own code;
            no such adapter, or one of another base.
    """
    return resolve_moe(
        path_or_id,
        None,
        Listener(),
        adapter=adapter,
        dtype=dtype,
        device=device,
        device_map=device_map,
        revision=revision,
        trust_remote_code=trust_remote_code,
    )
