"""The routers' rows, stored beside the trace: with a layer's stored inputs they give its scores without the model.

Shapes: S samples, H hidden size, E experts.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from turnout.models.wrap.anatomy import MoE, routing_scores
from turnout.models.wrap.families import Scoring
from turnout.runs import RunFolder

FILE = "routers.safetensors"


@dataclass(frozen=True, eq=False)
class Router:
    """Rows R [E, H] of one layer's router, its bias [E] or None, and its scoring function."""

    rows_EH: Tensor
    bias_E: Tensor | None
    scoring: Scoring

    def scores(self, logits_SE: Tensor) -> Tensor:
        """Compute p [S, E] from logits as the model does; see `routing_scores`."""
        return routing_scores(logits_SE, self.scoring)


def store_routers(moe: MoE, run: RunFolder) -> None:
    """Write the rows of every router that is a single linear map, in float32."""
    arrays = {}
    for layer in moe.layers:
        if (rows := layer.rows()) is not None:
            arrays[f"{layer.layer}.{layer.scoring}.weight"] = rows[0].float().cpu().numpy()
            if rows[1] is not None:
                arrays[f"{layer.layer}.{layer.scoring}.bias"] = rows[1].float().cpu().numpy()
    if arrays:
        run.write_arrays(FILE, arrays)


def read_routers(run: RunFolder) -> dict[int, Router]:
    """The stored routers by layer; empty for a run without them."""
    arrays = {name: torch.from_numpy(array) for name, array in (run.read_arrays(FILE) or {}).items()}
    routers = {}
    for scoring in ("softmax", "sigmoid"):
        for name, rows_EH in arrays.items():
            layer, kind, part = name.split(".")
            if kind == scoring and part == "weight":
                routers[int(layer)] = Router(rows_EH, arrays.get(f"{layer}.{kind}.bias"), scoring)
    return routers
