"""Coupling on real tokens: whether the router chooses the expert whose gate responds most to a token.

The response of expert j to a token is ‖x W_g^j‖, x being the experts' true input. A token *agrees* if the expert of
the largest response is among its K chosen ones, and agrees *first* if it is the one of the largest weight.

Shapes: T tokens of a batch, N routed experts, K chosen ones, S samples, B bootstrap draws, H hidden size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate.utils import align_module_device
from numpy.typing import NDArray
from torch import Tensor

from turnout import ops
from turnout.coupling.config import Scope
from turnout.errors import ModelError
from turnout.models.forward.hidden_states import ExpertInputs, visit_experts
from turnout.models.wrap.anatomy import MoE
from turnout.models.wrap.gates import gate_matrices

MEASURES = ("agree", "first", "correlation")
SCALES = ("raw", "scale_free")
_LARGEST = "loudest"  # stored key of the counts of the largest response
_CHUNK = 1024  # tokens whose norms are computed at a time, so that not all products are in memory
_DRAWS = 100  # bootstrap draws at a time

Counts = dict[str, NDArray[np.float64]]
"""Sums and counts of some samples, by "LAYER/…": see `count_tokens`."""


def count_tokens(moe: MoE, prompts: Sequence[Sequence[int]], scope: Scope) -> Counts:
    """Sums over each sample's tokens in one batch, and counts of each expert and choice.

    By layer and scale ("3/raw/agree"): `agree`, `first`, `correlation` summed over each sample's tokens, [S]; the
    number of tokens for which each expert's response is the largest (`loudest`), [N]; the number of tokens that agree
    with each choice, `by_choice`, [K]. By layer ("3/tokens"): the `tokens` of each sample, [S]; the number of tokens
    that chose each expert, `chosen`, and chose it first, `chosen_first`, [N].

    Raises:
        ModelError: logits or norms that are not finite; the layer is named.
    """
    counts: Counts = {}
    visit_experts(moe, prompts, lambda inputs: counts.update(_count(inputs, len(prompts))), scope)
    return counts


@torch.no_grad()
def responses(inputs: ExpertInputs) -> tuple[Tensor, Tensor]:
    """Each expert's response ‖x W_g^j‖ to each token [T, N], float32, and each gate's length ‖W_g^j‖_F [N]."""
    columns, lengths = [], []
    with align_module_device(inputs.layer.experts):
        for gate in gate_matrices(inputs.layer):
            gate_HI = gate.float()
            parts = inputs.inputs_TH.float().to(gate_HI.device).split(_CHUNK)
            columns.append(torch.cat([ops.gate_norms(part, gate_HI) for part in parts]).cpu())
            lengths.append(torch.linalg.vector_norm(gate_HI).cpu())
    return torch.stack(columns, dim=1), torch.stack(lengths)


def _count(inputs: ExpertInputs, n_samples: int) -> Counts:
    norms_TN, length_N = responses(inputs)
    logits_TN, chosen_TK = inputs.logits_TE.float().cpu(), inputs.chosen_TK.cpu()
    sample_T, n = inputs.sample_T.cpu(), norms_TN.shape[1]
    name = str(inputs.layer.layer)
    if not bool(norms_TN.isfinite().all() and logits_TN.isfinite().all()):
        raise ModelError(f"layer {name}", expected="finite logits and norms", received="NaN or infinity")
    counts: Counts = {
        f"{name}/tokens": _by_sample(torch.ones(len(norms_TN)), sample_T, n_samples),
        f"{name}/chosen": _by_expert(chosen_TK.reshape(-1), n),
        f"{name}/chosen_first": _by_expert(chosen_TK[:, 0], n),
    }
    free_TN = norms_TN / length_N.where(length_N > 0, torch.inf)
    for scale, values_TN in zip(SCALES, (norms_TN, free_TN), strict=True):
        largest_T = values_TN.argmax(1)
        agree_TK = chosen_TK == largest_T[:, None]
        measured = (agree_TK.any(1).float(), agree_TK[:, 0].float(), ops.rank_correlation(logits_TN, values_TN))
        for measure, value_T in zip(MEASURES, measured, strict=True):
            counts[f"{name}/{scale}/{measure}"] = _by_sample(value_T, sample_T, n_samples)
        counts[f"{name}/{scale}/{_LARGEST}"] = _by_expert(largest_T, n)
        counts[f"{name}/{scale}/by_choice"] = agree_TK.double().sum(0).numpy()
    return counts


@dataclass(frozen=True, eq=False)
class TokenCounts:
    """Counts of all samples, in the order of the questions: [S] columns concatenated, [N] and [K] summed."""

    counts: Mapping[str, NDArray[np.float64]]
    layers: tuple[int, ...]

    @classmethod
    def of(cls, parts: Sequence[Counts], order: Sequence[int]) -> "TokenCounts":
        """Combine the batches' counts; `order` contains the indices of the batches' samples, concatenated."""
        place, merged = np.argsort(order), {}
        for name in parts[0]:
            own = [part[name] for part in parts]
            merged[name] = np.concatenate(own)[place] if _of_samples(name) else np.sum(own, axis=0)
        layers = tuple(int(name.split("/")[0]) for name in parts[0] if name.endswith("/tokens"))
        return cls(merged, tuple(sorted(layers)))

    def figures(self, n_draws: int, seed: int) -> dict[int, dict[str, Any]]:
        """Means over all tokens of `agree`, `first` and `correlation`, raw and scale-free, by layer.

        Each has a 95 % interval over samples, and its chance level `expected`: K/N, 1/N and 0. `by_load` is the value
        of a router with the same load that ignores the token; `by_choice` splits `agree` over the K choices.
        """
        intervals = self._intervals(n_draws, seed)
        return {layer: self._layer(layer, intervals) for layer in self.layers}

    def _layer(self, layer: int, intervals: Mapping[str, list[float]]) -> dict[str, Any]:
        tokens_S = self.counts[f"{layer}/tokens"]
        chosen_N, first_N = self.counts[f"{layer}/chosen"], self.counts[f"{layer}/chosen_first"]
        total, n = float(tokens_S.sum()), len(chosen_N)
        expected = {"agree": float(chosen_N.sum()) / total / n, "first": 1 / n, "correlation": 0.0}
        figures: dict[str, Any] = {"tokens": int(total), "samples": len(tokens_S)}
        for scale in SCALES:
            largest_N = self.counts[f"{layer}/{scale}/{_LARGEST}"] / total
            by_load = {"agree": float(largest_N @ chosen_N) / total, "first": float(largest_N @ first_N) / total}
            figures[scale] = {"by_choice": (self.counts[f"{layer}/{scale}/by_choice"] / total).tolist()}
            for measure in MEASURES:
                name = f"{layer}/{scale}/{measure}"
                figures[scale][measure] = {
                    "value": float(self.counts[name].sum()) / total,
                    "interval": intervals[name],
                    "expected": expected[measure],
                    "by_load": by_load.get(measure),
                }
        return figures

    def _intervals(self, n_draws: int, seed: int) -> dict[str, list[float]]:
        """95 % intervals of every mean over tokens, from bootstrap draws of samples."""
        names = [name for name in self.counts if _of_samples(name)]
        column_SC = np.stack([self.counts[name] for name in names], axis=1)
        n, rng = len(column_SC), np.random.default_rng(seed)
        sizes = [
            min(_DRAWS, n_draws - start) for start in range(0, n_draws, _DRAWS)
        ]  # so that not all draws are in memory
        sums = [rng.multinomial(n, np.full(n, 1 / n), size=size).astype(np.float64) @ column_SC for size in sizes]
        sum_BC = np.concatenate(sums)
        tokens_B = sum_BC[:, names.index(f"{self.layers[0]}/tokens")]
        low_C, high_C = np.quantile(sum_BC / tokens_B[:, None], [0.025, 0.975], axis=0)
        return {name: [float(low_C[c]), float(high_C[c])] for c, name in enumerate(names)}


def _of_samples(name: str) -> bool:
    return name.rpartition("/")[2] in (*MEASURES, "tokens")


def _by_sample(value_T: Tensor, sample_T: Tensor, n_samples: int) -> NDArray[np.float64]:
    return torch.zeros(n_samples, dtype=torch.float64).index_add_(0, sample_T, value_T.double()).numpy()


def _by_expert(index_T: Tensor, n: int) -> NDArray[np.float64]:
    return torch.bincount(index_T, minlength=n).double().numpy()
