"""What a run has measured so far, in files of its own, so that a killed one goes on; removed when it is complete.

Each piece holds a digest of its arrays and of its run: one that is damaged or foreign is computed again.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError

from turnout.coupling.measure_config import MeasureConfig
from turnout.coupling.norms import LayerNorms, LayerWeights, read_norms
from turnout.coupling.tokens import Counts, count_tokens
from turnout.errors import RunError
from turnout.models.forward.batches import plan_batches
from turnout.models.wrap.anatomy import MoE
from turnout.progress import Progress
from turnout.runs import RunFolder

_DIGEST = "digest"
_ARRAYS = ("norms_NN", "router_N", "gate_N", "bound_N")
BATCHES_PER_PIECE = 8  # a kill costs at most these batches' work

Arrays = dict[str, NDArray[Any]]


def layer_piece(
    run: RunFolder, weights: LayerWeights, read: Callable[[int], None], note: Callable[[str], None]
) -> LayerNorms:
    """One layer's M, from its piece if there is one, else read from the weights and kept."""
    name = f"piece-layer-{weights.layer:04}.safetensors"
    kept = _kept(run, name, note)
    if kept is not None:
        read(len(kept["router_N"]))
        arrays = {field: torch.from_numpy(kept[field]) for field in _ARRAYS}
        return LayerNorms(weights.layer, kept["width"].item(), bool(kept["gated"].item()), **arrays)
    found = read_norms(weights, read)
    arrays_of = {field: getattr(found, field).numpy() for field in _ARRAYS}
    _keep(run, name, {**arrays_of, "width": np.array([found.width]), "gated": np.array([int(found.gated)])})
    return found


def kept_tokens(
    run: RunFolder,
    moe: MoE,
    prompts: Sequence[Sequence[int]],
    config: MeasureConfig,
    progress: Progress,
    note: Callable[[str], None],
) -> tuple[list[Counts], list[int]]:
    """Counts of every batch, and the samples that they are of, one after another."""
    lengths = [len(ids) for ids in prompts]
    plan = plan_batches(lengths, config.token_budget)
    counts: list[Counts] = []
    done, total = 0, sum(lengths)
    progress("reading tokens", done, total, "tokens")
    for start in range(0, len(plan), BATCHES_PER_PIECE):
        name, batches = (
            f"piece-tokens-{start // BATCHES_PER_PIECE:05}.safetensors",
            plan[start : start + BATCHES_PER_PIECE],
        )
        kept = _kept(run, name, note)
        if kept is None:
            parts: Arrays = {}
            for i, batch in enumerate(batches):
                found = count_tokens(moe, [prompts[s] for s in batch], config.scope)
                parts |= {f"{i}:{key}": value for key, value in found.items()}
                done += sum(lengths[s] for s in batch)
                progress("reading tokens", done, total, "tokens")
            _keep(run, name, kept := parts)
        else:
            done += sum(lengths[s] for batch in batches for s in batch)
            progress("reading tokens", done, total, "tokens")
        counts += [_part(kept, i) for i in range(len(batches))]
    return counts, [s for batch in plan for s in batch]


def remove_pieces(run: RunFolder) -> None:
    """Remove what only an unfinished run needs."""
    for piece in run.path.glob("piece-*.safetensors"):
        piece.unlink()


def _part(kept: Mapping[str, NDArray[Any]], number: int) -> Counts:
    head = f"{number}:"
    return {key.removeprefix(head): value for key, value in kept.items() if key.startswith(head)}


def _keep(run: RunFolder, name: str, arrays: Arrays) -> None:
    arrays = {key: np.ascontiguousarray(value) for key, value in arrays.items()}
    run.write_arrays(name, {**arrays, _DIGEST: _digest(run, name, arrays)})


def _kept(run: RunFolder, name: str, note: Callable[[str], None]) -> Arrays | None:
    try:
        arrays = run.read_arrays(name)
    except (RunError, SafetensorError, OSError, ValueError) as error:
        note(f"{run.path / name}: cannot be read ({error}); it will be computed again")
        return None
    if arrays is None:
        return None
    digest = arrays.pop(_DIGEST, None)
    if digest is None or digest.tobytes() != _digest(run, name, arrays).tobytes():
        note(f"{run.path / name}: not what this run wrote there (damaged or foreign); it will be computed again")
        return None
    return arrays


def _digest(run: RunFolder, name: str, arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.uint8]:
    sha = hashlib.sha256(f"{run.identity} {name} ".encode())
    for key in sorted(arrays):
        sha.update(f"{key} {arrays[key].dtype} {arrays[key].shape} ".encode())
        sha.update(arrays[key].tobytes())
    return np.frombuffer(sha.digest(), dtype=np.uint8)
