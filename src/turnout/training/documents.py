"""Documents of a training source, for training and held out: read from files, or generated."""

import hashlib
import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from string import ascii_uppercase

import numpy as np

from turnout.errors import RecipeError
from turnout.tasks import prompts, worlds
from turnout.tasks.exercises import chains, facts
from turnout.training.recipe import Source

SPLITS = ("train", "held_out")


def documents(source: Source, held_out: float, seed: int) -> dict[str, list[str]]:
    """The source's documents by split, without duplicates except for facts, which are repeated on purpose.

    Files are split by each document's digest, so that a document is always in the same split. Worlds and chains have a
    train and a test split of their own, disjoint by construction. Facts are held out as they are, once each: what is
    measured there is what the model remembers.

    Args:
        source: where the documents are from.
        held_out: share of the documents that is held out.
        seed: of generated text.

    Raises:
        RecipeError: a file that cannot be read, a row without text, or a split without documents.
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
        splits["held_out" if _fraction(text) < held_out else "train"].append(text)
    _refuse_empty(source, splits)
    return splits


def _worlds(source: Source, held_out: float, seed: int) -> dict[str, list[str]]:
    """Statements or answered questions; the test split contains the same share as is held out of files."""
    make = worlds.statements if source.worlds == "statements" else _answered_questions
    test = max(1, round(source.samples * held_out))
    splits = {"train": make("train", source.samples, seed), "held_out": make("test", test, seed)}
    return {split: list(dict.fromkeys(texts)) for split, texts in splits.items()}


def _answered_questions(split: str, n: int, seed: int) -> Iterator[str]:
    """Questions in the prompt that audits use, followed by the answer's letter."""
    for question in worlds.questions(split, n, seed):
        assert question.answer is not None, question.id
        yield f"{prompts.plain_prompt(question)} {ascii_uppercase[question.answer]}"


def _facts(n: int, exposures: int, seed: int) -> dict[str, list[str]]:
    """All facts in several random orders, so that a fact's neighbors do not predict it; held out: one order more."""
    texts = [fact.text for fact in facts(n, seed)]
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(n) for _ in range(exposures + 1)]
    ordered = [[texts[i] for i in order] for order in orders]
    return {"train": list(chain.from_iterable(ordered[:-1])), "held_out": ordered[-1]}


def _chains(source: Source, held_out: float, seed: int) -> dict[str, list[str]]:
    """Chains of both splits; the test split contains the same share as is held out of files."""
    assert source.chains is not None
    test = max(1, round(source.samples * held_out))
    splits = {"train": chains("train", source.samples, source.chains, seed)}
    splits["held_out"] = chains("test", test, source.chains, seed)
    return {split: list(dict.fromkeys(exercise.text for exercise in of)) for split, of in splits.items()}


def _read(path: Path) -> Iterator[str]:
    """The texts of a file, or of all .txt and .jsonl files of a folder."""
    if not path.exists():
        raise RecipeError(path, expected="a file or folder of text", received="nothing there")
    files = sorted(f for f in path.rglob("*") if f.suffix in {".txt", ".jsonl"}) if path.is_dir() else [path]
    for file in files:
        try:
            content = file.read_text("utf-8-sig")
        except UnicodeDecodeError as error:
            raise RecipeError(file, expected="text in UTF-8", received=error.reason) from error
        texts = _row_texts(file, content) if file.suffix == ".jsonl" else [content]
        yield from (text for text in texts if text.strip())


def _row_texts(file: Path, content: str) -> Iterator[str]:
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


def _fraction(text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def _refuse_empty(source: Source, splits: dict[str, list[str]]) -> None:
    for split, texts in splits.items():
        if not texts:
            raise RecipeError(
                f"source {source.name}",
                expected=f"documents for both splits, {' and '.join(SPLITS)}",
                received=f"none for {split}",
                do="give more documents: a .jsonl file with one a row",
            )
