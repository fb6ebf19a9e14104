"""Reference questions: answered training questions that are the neighbors of evaluation questions.

Shapes: N evaluation questions, B of a batch, S training questions, R references, X coordinates of an embedding, F
routing scores, k neighbors.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from turnout import ops
from turnout.aligning.config import ManifoldConfig


@dataclass(frozen=True, eq=False)
class References:
    """The successful set as neighbors of evaluation questions; none of their texts is among the training questions.

    Attributes:
        question_R: indices of the references among the training questions, one of each text.
        routing_RF: their routing under the base routers.
        index_Nk: neighbors by embedding of each evaluation question, as training questions, nearest first; −1 where
            there are fewer.
        weight_Nk: K_j / ΣK; 0 where there are fewer.
        embedding_NX: unit vectors of the evaluation questions.
        embedding_SX: unit vectors of the training questions.
        sigma: width of the kernel over distances of embeddings.
    """

    question_R: Tensor
    routing_RF: Tensor
    index_Nk: Tensor
    weight_Nk: Tensor
    embedding_NX: Tensor
    embedding_SX: Tensor
    sigma: float

    def neighbors_of(self, index: int) -> list[int]:
        """Neighbors of an evaluation question, as indices of training questions."""
        return [j for j in self.index_Nk[index].tolist() if j >= 0]

    def kernel_mean(self, question_B: Tensor, routing_SF: Tensor) -> Tensor:
        """ΣK_j·ω_j / ΣK [B, F] over the neighbors of each evaluation question."""
        index_Bk = self.index_Nk[question_B]
        near_Bk = index_Bk.clamp(min=0)
        near = self.embedding_SX[near_Bk], routing_SF[near_Bk]
        return ops.kernel_regression(self.embedding_NX[question_B], *near, self.sigma, index_Bk < 0)


def nearest_references(
    test_NX: Tensor, train_SX: Tensor, question_R: Tensor, config: ManifoldConfig, max_similarity: float
) -> tuple[Tensor, Tensor]:
    """Index [N, k] among the training questions, and weight [N, k], of each evaluation question's nearest references.

    References of a similarity exp(−d²/2σ²) above `max_similarity` or below `config.min_similarity`, if given, are left
    out before the k nearest are taken.
    """
    reference_RX = train_SX[question_R]
    n_candidates, n = min(config.k, len(question_R)), len(question_R)
    while True:
        index_NC, _ = ops.neighbours(test_NX, reference_RX, n_candidates, config.sigma, config.min_similarity)
        near_NCX = reference_RX[index_NC.clamp(min=0)]
        squared_NC = (near_NCX - test_NX.unsqueeze(1)).square().sum(2)
        too_near_NC = (squared_NC / (-2 * config.sigma**2)).exp() > max_similarity
        wanted_NC = (index_NC >= 0) & ~too_near_NC
        if n_candidates == n or bool((wanted_NC.sum(1) >= config.k).all()):
            break
        n_candidates = min(2 * n_candidates, n)
    order_Nk = wanted_NC.sort(dim=1, descending=True, stable=True).indices[:, : config.k]
    missing_Nk = ~wanted_NC.gather(1, order_Nk)
    place_Nk = index_NC.gather(1, order_Nk).clamp(min=0)
    weight_Nk = ops.kernel_weights(test_NX, reference_RX[place_Nk], config.sigma, missing_Nk)
    return question_R[place_Nk].masked_fill(missing_Nk, -1), weight_Nk


def median_distance(routing_RF: Tensor, k: int) -> float:
    """Median over the references of the distance of their routing to the k-th nearest other's; 1 if it is 0."""
    k = min(k, len(routing_RF) - 1)
    index_Rk, _ = ops.neighbours(routing_RF, routing_RF, k, 1.0, exclude_N=torch.arange(len(routing_RF)))
    return float((routing_RF - routing_RF[index_Rk[:, -1]]).norm(dim=1).median()) or 1.0
