"""The answered training questions that a tested question may learn from.

Shapes: N tested questions, S training questions, R references, X coordinates of an embedding, F routing scores,
k neighbours.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from turnout import ops
from turnout.aligning.config import ManifoldConfig


@dataclass(frozen=True, eq=False)
class References:
    """The successful set as tested questions see it. No tested question's text is among the training questions.

    Attributes:
        question_R: their numbers among the training questions, one of each text.
        routing_RF: their routing under the base.
        index_Nk: each tested question's neighbours by embedding, as training questions, nearest first; −1 where there
            are fewer.
        weight_Nk: K_j / ΣK; 0 where there are fewer.
        embedding_NX: of the tested questions, unit vectors.
        embedding_SX: of the training questions.
        sigma: the kernel's width over distances of embeddings.
    """

    question_R: Tensor
    routing_RF: Tensor
    index_Nk: Tensor
    weight_Nk: Tensor
    embedding_NX: Tensor
    embedding_SX: Tensor
    sigma: float

    def regress(self, question_B: Tensor, routing_SF: Tensor) -> Tensor:
        """ΣK_j·ω_j / ΣK [B, F] over each question's neighbours by embedding."""
        index_Bk = self.index_Nk[question_B]
        near_Bk = index_Bk.clamp(min=0)
        near = self.embedding_SX[near_Bk], routing_SF[near_Bk]
        return ops.kernel_regression(self.embedding_NX[question_B], *near, self.sigma, index_Bk < 0)


def nearest(
    tested_NX: Tensor, train_SX: Tensor, question_R: Tensor, config: ManifoldConfig, max_similarity: float
) -> tuple[Tensor, Tensor]:
    """Index [N, k] among the training questions and weight [N, k] of the references nearest to each tested question.

    References of a greater similarity exp(−d²/2σ²) than `max_similarity` are left out, and those of a lower one than
    `config.min_similarity`, if there is one; the k nearest of the others count.
    """
    reference_RX = train_SX[question_R]
    found, n = min(config.k, len(question_R)), len(question_R)
    while True:
        index_Nf, _ = ops.neighbours(tested_NX, reference_RX, found, config.sigma, config.min_similarity)
        near_NfX = reference_RX[index_Nf.clamp(min=0)]
        squared_Nf = (near_NfX - tested_NX.unsqueeze(1)).square().sum(2)
        too_near_Nf = (squared_Nf / (-2 * config.sigma**2)).exp() > max_similarity
        wanted_Nf = (index_Nf >= 0) & ~too_near_Nf
        if found == n or bool((wanted_Nf.sum(1) >= config.k).all()):
            break
        found = min(2 * found, n)
    order_Nk = wanted_Nf.sort(dim=1, descending=True, stable=True).indices[:, : config.k]
    missing_Nk = ~wanted_Nf.gather(1, order_Nk)
    place_Nk = index_Nf.gather(1, order_Nk).clamp(min=0)
    weight_Nk = ops.kernel_weights(tested_NX, reference_RX[place_Nk], config.sigma, missing_Nk)
    return question_R[place_Nk].masked_fill(missing_Nk, -1), weight_Nk


def median_distance(routing_RF: Tensor, k: int) -> float:
    """The median over references of the distance of their routing to that of the k-th nearest other; 1 if that is 0."""
    k = min(k, len(routing_RF) - 1)
    index_Rk, _ = ops.neighbours(routing_RF, routing_RF, k, 1.0, exclude_N=torch.arange(len(routing_RF)))
    return float((routing_RF - routing_RF[index_Rk[:, -1]]).norm(dim=1).median()) or 1.0
