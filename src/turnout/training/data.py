"""Text to training sequences: sources → documents → tokens on disk → fixed-length sequences in a seeded order.

Every document is followed by the end-of-text token, and a source's documents lie one after another. A training sequence
is T consecutive tokens of one source. Tokens are stored once; later passes over a source start at another offset. Where
documents are isolated, positions start anew with each (`isolation.py`).

Shapes: T tokens of a sequence.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from string import ascii_uppercase

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from turnout.errors import RecipeError
from turnout.progress import Progress, silent
from turnout.runs import atomic
from turnout.tasks import prompts, worlds
from turnout.tasks.exercises import chains, facts
from turnout.training.exercise_tokenizer import EXERCISES, exercise_tokenizer
from turnout.training.isolation import positions
from turnout.training.recipe import DataRecipe, Source

SPLITS = ("train", "held_out")
_BATCH = 1000  # documents tokenised at once


@dataclass(frozen=True)
class Tokens:
    """One split of one source: its tokens on disk and how many bytes of UTF-8 they stand for."""

    source: str
    ids: NDArray[np.integer]
    n_bytes: int
    n_documents: int


def documents(source: Source, held_out: float, seed: int) -> dict[str, list[str]]:
    """The source's documents by split; without repeats, but for facts, which are there to be repeated.

    Files are split by each document's digest, so that the same document always falls on the same side. Worlds have a
    train and a test split of their own, which is disjoint by construction.
    """
    if source.worlds is not None:
        return _worlds(source, held_out, seed)
    if source.facts is not None:
        return _facts(source.facts, source.exposures, seed)
    if source.chains is not None:
        return _chains(source, held_out, seed)
    assert source.path is not None
    splits: dict[str, list[str]] = {split: [] for split in SPLITS}
    for text in dict.fromkeys(_read(source.path)):
        splits["held_out" if _share(text) < held_out else "train"].append(text)
    return _filled(source, splits)


def prepare(recipe: DataRecipe, folder: Path, seed: int, progress: Progress = silent) -> dict[str, dict[str, Tokens]]:
    """Tokens of every split and source, {split: {source: Tokens}}, memory-mapped from `folder`.

    What is not there yet is tokenised and written; a file appears only when it is whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer: PreTrainedTokenizerBase | None = None
    for i, source in enumerate(recipe.sources):
        progress("tokens", i, len(recipe.sources), "sources")
        if not (folder / f"{source.name}.json").exists():
            tokenizer = tokenizer or load_tokenizer(recipe.tokenizer)
            drawn = seed if recipe.worlds_seed is None else recipe.worlds_seed
            _write(source.name, documents(source, recipe.held_out, drawn), tokenizer, folder)
    progress("tokens", len(recipe.sources), len(recipe.sources), "sources")
    return {split: {s.name: _open(folder, s.name, split) for s in recipe.sources} for split in SPLITS}


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The fast tokenizer of `folder`, or that of the exercises; RecipeError for none, or one without end of text."""
    if folder == EXERCISES and not folder.exists():
        return exercise_tokenizer()
    if not (folder / "tokenizer.json").is_file():
        raise RecipeError(folder, expected="a folder with a tokenizer.json", received="none there")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # tokenizers raises bare ones
        raise RecipeError(folder, expected="a tokenizer that transformers can load", received=error) from error
    if tokenizer.eos_token_id is None:
        raise RecipeError(folder, expected="a tokenizer with an eos token", received="none")
    return tokenizer


def tokenise(texts: Iterable[str], tokenizer: PreTrainedTokenizerBase) -> Iterator[list[int]]:
    """The tokens of each text, with the end-of-text token behind it."""
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == _BATCH:
            yield from _tokenise(batch, tokenizer)
            batch = []
    if batch:
        yield from _tokenise(batch, tokenizer)


class Mixture(Dataset[dict[str, torch.Tensor]]):
    """`n` training sequences [T] of several sources, in a seeded order, each source's number by its weight.

    Item i is {"input_ids", "labels"}, the same for the same arguments in every process; with `end`, the end-of-text
    token of isolated documents, it has "position_ids" too.
    """

    def __init__(
        self,
        tokens: dict[str, Tokens],
        weights: dict[str, float],
        length: int,
        n: int,
        seed: int,
        end: int | None = None,
    ) -> None:
        self._tokens, self._length, self._end = [tokens[name] for name in weights], length, end
        rng = np.random.default_rng(seed)
        share = np.array(list(weights.values())) / sum(weights.values())
        counts = np.diff(np.round(np.concatenate([[0.0], np.cumsum(share)]) * n).astype(int))
        parts = [_starts(t, length, int(c), rng) for t, c in zip(self._tokens, counts, strict=True)]
        order = rng.permutation(n)
        self._source = np.repeat(np.arange(len(parts), dtype=np.int16), counts)[order]
        self._start = np.concatenate(parts)[order]

    def __len__(self) -> int:
        return len(self._start)

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        """Sequence i."""
        start = int(self._start[i])
        ids = self._tokens[self._source[i]].ids[start : start + self._length]
        return _item(torch.from_numpy(ids.astype(np.int64)), self._end)


def windows(tokens: Tokens, length: int, most: int, end: int | None = None) -> Dataset[dict[str, torch.Tensor]]:
    """The first `most` tokens as sequences of `length` without overlap; a short rest is left out. `end` as above."""
    n = max(1, min(len(tokens.ids), most) // length)
    rows = tokens.ids[: n * length].astype(np.int64)
    return _Rows(torch.from_numpy(rows).view(n, -1), end)


class _Rows(Dataset[dict[str, torch.Tensor]]):
    def __init__(self, rows: torch.Tensor, end: int | None) -> None:
        self._rows, self._end = rows, end

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        return _item(self._rows[i], self._end)


def _item(row: torch.Tensor, end: int | None) -> dict[str, torch.Tensor]:
    """What the model is given of the sequence `row` [T]."""
    item = {"input_ids": row, "labels": row}
    return item if end is None else item | {"position_ids": positions(row, end)}


def _starts(tokens: Tokens, length: int, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Where `n` sequences start: pass after pass over the source, each from an offset of its own, in random order."""
    if n and len(tokens.ids) < length:
        received = f"{len(tokens.ids)} tokens"
        raise RecipeError(f"source {tokens.source}", expected=f"at least {length} training tokens", received=received)
    starts: list[NDArray[np.int64]] = []
    while sum(map(len, starts)) < n:
        offset = int(rng.integers(0, min(length, len(tokens.ids) - length + 1)))
        starts.append(rng.permutation(np.arange(offset, len(tokens.ids) - length + 1, length)))
    return np.concatenate([*starts, np.empty(0, np.int64)])[:n].astype(np.int64)


def _worlds(source: Source, held_out: float, seed: int) -> dict[str, list[str]]:
    """Statements or answered questions; the test split as many as would be held out of files."""
    make = worlds.statements if source.worlds == "statements" else _answered
    test = max(1, round(source.samples * held_out))
    splits = {"train": make("train", source.samples, seed), "held_out": make("test", test, seed)}
    return {split: list(dict.fromkeys(texts)) for split, texts in splits.items()}


def _facts(n: int, exposures: int, seed: int) -> dict[str, list[str]]:
    """Every fact in one random order after another, so that its neighbours give nothing away; held out, once more."""
    texts = [fact.text for fact in facts(n, seed)]
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(n) for _ in range(exposures + 1)]
    told = [[texts[i] for i in order] for order in orders]
    return {"train": list(chain.from_iterable(told[:-1])), "held_out": told[-1]}


def _chains(source: Source, held_out: float, seed: int) -> dict[str, list[str]]:
    """Chains of both splits, the test split as many as would be held out of files."""
    assert source.chains is not None
    test = max(1, round(source.samples * held_out))
    made = {"train": chains("train", source.samples, source.chains, seed)}
    made["held_out"] = chains("test", test, source.chains, seed)
    return {split: list(dict.fromkeys(exercise.text for exercise in of)) for split, of in made.items()}


def _answered(split: str, n: int, seed: int) -> Iterator[str]:
    """Questions in the prompt that audits use, with the answer's letter behind it."""
    for question in worlds.questions(split, n, seed):
        assert question.answer is not None, question.id
        yield f"{prompts.plain_prompt(question)} {ascii_uppercase[question.answer]}"


def _read(path: Path) -> Iterator[str]:
    if not path.exists():
        raise RecipeError(path, expected="a file or folder of text", received="nothing there")
    files = sorted(f for f in path.rglob("*") if f.suffix in {".txt", ".jsonl"}) if path.is_dir() else [path]
    for file in files:
        try:
            content = file.read_text("utf-8-sig")
        except UnicodeDecodeError as error:
            raise RecipeError(file, expected="text in UTF-8", received=error.reason) from error
        texts = _rows(file, content) if file.suffix == ".jsonl" else [content]
        yield from (text for text in texts if text.strip())


def _rows(file: Path, content: str) -> Iterator[str]:
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        try:
            text = json.loads(line)["text"]
        except (ValueError, KeyError, TypeError):
            text = None
        if not isinstance(text, str):
            raise RecipeError(f"{file}, row {number}", expected='an object with a string "text"', received=line)
        yield text


def _share(text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def _filled(source: Source, splits: dict[str, list[str]]) -> dict[str, list[str]]:
    for split, texts in splits.items():
        if not texts:
            raise RecipeError(
                f"source {source.name}",
                expected=f"documents for both splits, {' and '.join(SPLITS)}",
                received=f"none for {split}",
                do="give more documents: a .jsonl file with one a row",
            )
    return splits


def _write(name: str, splits: dict[str, list[str]], tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    facts = {}
    for split, texts in splits.items():
        rows = [np.asarray(row, _dtype(tokenizer)) for row in tokenise(texts, tokenizer)]
        with atomic.replacing(folder / f"{name}-{split}.npy") as file:
            np.save(file, np.concatenate(rows))
        facts[split] = {"bytes": sum(len(text.encode()) for text in texts), "documents": len(texts)}
    atomic.write_bytes(folder / f"{name}.json", json.dumps(facts).encode())


def _open(folder: Path, name: str, split: str) -> Tokens:
    facts = json.loads((folder / f"{name}.json").read_text())[split]
    ids = np.load(folder / f"{name}-{split}.npy", mmap_mode="r")
    return Tokens(name, ids, facts["bytes"], facts["documents"])


def _dtype(tokenizer: PreTrainedTokenizerBase) -> type[np.integer]:
    return np.uint16 if len(tokenizer) <= 2**16 else np.uint32


def _tokenise(batch: list[str], tokenizer: PreTrainedTokenizerBase) -> Iterator[list[int]]:
    for ids in tokenizer(batch, add_special_tokens=False, verbose=False)["input_ids"]:
        yield [*ids, tokenizer.eos_token_id]
