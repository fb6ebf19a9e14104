"""Which answered questions are near which, and how much each counts.

Shapes: S training questions, X coordinates of an embedding, R references, k neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from turnout import ops
from turnout.aligning.config import ManifoldConfig
from turnout.errors import TaskError


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """The neighbours of every training question.

    Attributes:
        reference_R: the questions that may be neighbours, one of each text.
        own_S: place in `reference_R` of the question's own text, −1 if it is not there.
        index_Sk: each question's neighbours as training questions, nearest first; −1 where there are fewer.
        weight_Sk: W, float32; 0 where there are fewer.
    """

    reference_R: Tensor
    own_S: Tensor
    index_Sk: Tensor
    weight_Sk: Tensor

    @property
    def n_without(self) -> int:
        """How many questions have no neighbour: they contribute cross-entropy only."""
        return int((self.index_Sk < 0).all(1).sum())


def find(
    embedding_SX: Tensor, texts: Sequence[str], allowed_S: Tensor, config: ManifoldConfig, name: str
) -> Neighbourhood:
    """The `k` nearest of the questions that are allowed, never the question itself nor one of the same text.

    Args:
        embedding_SX: unit vectors.
        texts: the questions' normalised texts.
        allowed_S: who may be a neighbour: the successful set.
        config: k, σ and ε.
        name: what an error is about.

    Raises:
        TaskError: nobody is allowed, or too few different texts for k neighbours.
    """
    first = references(texts, allowed_S, config.k, name)
    reference_R = torch.tensor(list(first.values()))
    place = {text: at for at, text in enumerate(first)}
    own_S = torch.tensor([place.get(text, -1) for text in texts])
    index_Sk, weight_Sk = ops.neighbours(
        embedding_SX, embedding_SX[reference_R], config.k, config.sigma, config.min_similarity, own_S
    )
    missing_Sk = index_Sk < 0
    return Neighbourhood(reference_R, own_S, reference_R[index_Sk.clamp(min=0)].masked_fill(missing_Sk, -1), weight_Sk)


def references(texts: Sequence[str], allowed_S: Tensor, k: int, name: str) -> dict[str, int]:
    """Each different text among the questions that are allowed, and the first question that has it.

    Raises:
        TaskError: nobody is allowed, or too few different texts for k neighbours.
    """
    if not bool(allowed_S.any()):
        expected, received = "a training question that the base model answers right", f"none of {len(texts)}"
        raise TaskError(name, expected=expected, received=received, do="the method has nobody to learn from")
    first: dict[str, int] = {}
    for i in allowed_S.nonzero().flatten().tolist():
        first.setdefault(texts[i], i)
    if len(first) <= k:
        expected = f"more than k = {k} different questions that may be neighbours"
        raise TaskError(name, expected=expected, received=len(first))
    return first
