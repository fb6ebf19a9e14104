"""Tokens of the training text on disk: the recipe's tokenizer, and one array for each source and split.

Every document is followed by the end-of-text token. A source's documents are stored one after another, once; later
passes over a source read them from another offset (`sequences.py`).
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from turnout.errors import RecipeError
from turnout.listener import Listener
from turnout.runs import atomic
from turnout.tasks.exercises.generated import END, PAD, UNKNOWN, VOCABULARY
from turnout.training.documents import SPLITS, documents
from turnout.training.recipe import DataRecipe

EXERCISES = Path("exercises")
"""What a recipe contains instead of a tokenizer's folder for the tokenizer of facts and chains."""
_CONTEXT = 1024  # longest text of the exercises, in tokens
_BATCH = 1000  # documents tokenized at once


@dataclass(frozen=True)
class Tokens:
    """One split of one source.

    Attributes:
        source: the source's name.
        ids: token ids of all documents, memory-mapped.
        n_bytes: bytes of the documents in UTF-8.
        n_documents: number of documents.
    """

    source: str
    ids: NDArray[np.integer]
    n_bytes: int
    n_documents: int


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The fast tokenizer of `folder`, or that of the exercises.

    Raises:
        RecipeError: no tokenizer there, or one without an end-of-text token.
    """
    if folder == EXERCISES and not folder.exists():
        return exercise_tokenizer()
    if not (folder / "tokenizer.json").is_file():
        raise RecipeError(folder, expected="a folder with a tokenizer.json", received="none there")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the tokenizers package raises Exception itself
        raise RecipeError(folder, expected="a tokenizer that transformers can load", received=error) from error
    if tokenizer.eos_token_id is None:
        raise RecipeError(folder, expected="a tokenizer with an eos token", received="none")
    return tokenizer


def exercise_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of facts and chains: splits at spaces, 512 words of one token each; any other word is <unk>."""
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token=UNKNOWN))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.decoder = decoders.WordPiece(prefix="##", cleanup=False)  # joins by spaces
    return PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token=END, pad_token=PAD, unk_token=UNKNOWN, model_max_length=_CONTEXT
    )


def prepare_tokens(recipe: DataRecipe, folder: Path, seed: int, listener: Listener) -> dict[str, dict[str, Tokens]]:
    """Tokens of every split and source, {split: {source: Tokens}}, memory-mapped from `folder`.

    Sources that `folder` does not contain yet are tokenized and written; a file appears only when it is complete.

    Args:
        recipe: the text.
        folder: where the arrays are kept.
        seed: of generated text, unless the recipe has a `worlds_seed`.
        listener: receives the number of sources that are done.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer: PreTrainedTokenizerBase | None = None
    for i, source in enumerate(recipe.sources):
        listener.progress("tokens", i, len(recipe.sources), "sources")
        if not (folder / f"{source.name}.json").exists():
            tokenizer = tokenizer or load_tokenizer(recipe.tokenizer)
            text_seed = seed if recipe.worlds_seed is None else recipe.worlds_seed
            _write(source.name, documents(source, recipe.held_out, text_seed), tokenizer, folder)
    listener.progress("tokens", len(recipe.sources), len(recipe.sources), "sources")
    return {split: {s.name: _open(folder, s.name, split) for s in recipe.sources} for split in SPLITS}


def tokenize(texts: Iterable[str], tokenizer: PreTrainedTokenizerBase) -> Iterator[list[int]]:
    """The tokens of each text, followed by the end-of-text token."""
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == _BATCH:
            yield from _tokenize_batch(batch, tokenizer)
            batch = []
    if batch:
        yield from _tokenize_batch(batch, tokenizer)


def _tokenize_batch(batch: list[str], tokenizer: PreTrainedTokenizerBase) -> Iterator[list[int]]:
    for ids in tokenizer(batch, add_special_tokens=False, verbose=False)["input_ids"]:
        yield [*ids, tokenizer.eos_token_id]


def _write(name: str, splits: dict[str, list[str]], tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    counts = {}
    for split, texts in splits.items():
        rows = [np.asarray(row, _dtype(tokenizer)) for row in tokenize(texts, tokenizer)]
        with atomic.replacing(folder / f"{name}-{split}.npy") as file:
            np.save(file, np.concatenate(rows))
        counts[split] = {"bytes": sum(len(text.encode()) for text in texts), "documents": len(texts)}
    atomic.write_bytes(folder / f"{name}.json", json.dumps(counts).encode())


def _open(folder: Path, name: str, split: str) -> Tokens:
    counts = json.loads((folder / f"{name}.json").read_text())[split]
    ids = np.load(folder / f"{name}-{split}.npy", mmap_mode="r")
    return Tokens(name, ids, counts["bytes"], counts["documents"])


def _dtype(tokenizer: PreTrainedTokenizerBase) -> type[np.integer]:
    return np.uint16 if len(tokenizer) <= 2**16 else np.uint32
