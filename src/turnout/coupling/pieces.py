"""Pieces of an unfinished measurement, one file each, so that a killed run resumes; removed when it is complete.

Each piece contains a digest of its arrays and of its run. A damaged piece, or one of another run, is computed again.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError

from turnout.coupling.config import MeasureConfig
from turnout.coupling.norms import LayerNorms, LayerWeights, read_norms
from turnout.coupling.tokens import Counts, count_tokens
from turnout.errors import RunError
from turnout.listener import Listener
from turnout.models.forward.batches import plan_batches
from turnout.models.wrap.anatomy import MoE
from turnout.runs import RunFolder

_DIGEST = "digest"
_ARRAYS = ("norms_NN", "router_N", "gate_N", "bound_N")
BATCHES_PER_PIECE = 8
"""Batches of a piece of token counts: the most work that a kill costs."""

Arrays = dict[str, NDArray[Any]]


def layer_norms(run: RunFolder, weights: LayerWeights, report: Callable[[int], None], listener: Listener) -> LayerNorms:
    """M of one layer, from its piece if there is one, else computed from the weights and stored.

    Args:
        run: the unfinished run.
        weights: the layer's router and gates.
        report: receives numbers of experts that are done.
        listener: receives notes of damaged pieces.
    """
    name = f"piece-layer-{weights.layer:04}.safetensors"
    stored = _load(run, name, listener)
    if stored is not None:
        report(len(stored["router_N"]))
        arrays = {field: torch.from_numpy(stored[field]) for field in _ARRAYS}
        return LayerNorms(weights.layer, stored["width"].item(), bool(stored["gated"].item()), **arrays)
    norms = read_norms(weights, report)
    arrays_of = {field: getattr(norms, field).numpy() for field in _ARRAYS}
    _store(run, name, {**arrays_of, "width": np.array([norms.width]), "gated": np.array([int(norms.gated)])})
    return norms


def token_counts(
    run: RunFolder, moe: MoE, prompts: Sequence[Sequence[int]], config: MeasureConfig, listener: Listener
) -> tuple[list[Counts], list[int]]:
    """Counts of every batch, and the indices of the batches' samples, concatenated."""
    lengths = [len(ids) for ids in prompts]
    plan = plan_batches(lengths, config.token_budget)
    counts: list[Counts] = []
    done, total = 0, sum(lengths)
    listener.progress("reading tokens", done, total, "tokens")
    for start in range(0, len(plan), BATCHES_PER_PIECE):
        name = f"piece-tokens-{start // BATCHES_PER_PIECE:05}.safetensors"
        batches = plan[start : start + BATCHES_PER_PIECE]
        stored = _load(run, name, listener)
        if stored is None:
            parts: Arrays = {}
            for i, batch in enumerate(batches):
                batch_counts = count_tokens(moe, [prompts[s] for s in batch], config.scope)
                parts |= {f"{i}:{key}": value for key, value in batch_counts.items()}
                done += sum(lengths[s] for s in batch)
                listener.progress("reading tokens", done, total, "tokens")
            _store(run, name, stored := parts)
        else:
            done += sum(lengths[s] for batch in batches for s in batch)
            listener.progress("reading tokens", done, total, "tokens")
        counts += [_part(stored, i) for i in range(len(batches))]
    return counts, [s for batch in plan for s in batch]


def remove_pieces(run: RunFolder) -> None:
    """Remove every piece of the run."""
    for piece in run.path.glob("piece-*.safetensors"):
        piece.unlink()


def _part(stored: Mapping[str, NDArray[Any]], number: int) -> Counts:
    """The counts of one batch of a piece."""
    prefix = f"{number}:"
    return {key.removeprefix(prefix): value for key, value in stored.items() if key.startswith(prefix)}


def _store(run: RunFolder, name: str, arrays: Arrays) -> None:
    arrays = {key: np.ascontiguousarray(value) for key, value in arrays.items()}
    run.write_arrays(name, {**arrays, _DIGEST: _digest(run, name, arrays)})


def _load(run: RunFolder, name: str, listener: Listener) -> Arrays | None:
    """The arrays of a piece; None if there is none, or it must be computed again."""
    try:
        arrays = run.read_arrays(name)
    except (RunError, SafetensorError, OSError, ValueError) as error:
        listener.note(f"{run.path / name}: cannot be read ({error}); it will be computed again")
        return None
    if arrays is None:
        return None
    digest = arrays.pop(_DIGEST, None)
    if digest is None or digest.tobytes() != _digest(run, name, arrays).tobytes():
        listener.note(f"{run.path / name}: damaged, or of another run; it will be computed again")
        return None
    return arrays


def _digest(run: RunFolder, name: str, arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.uint8]:
    sha = hashlib.sha256(f"{run.identity} {name} ".encode())
    for key in sorted(arrays):
        sha.update(f"{key} {arrays[key].dtype} {arrays[key].shape} ".encode())
        sha.update(arrays[key].tobytes())
    return np.frombuffer(sha.digest(), dtype=np.uint8)
