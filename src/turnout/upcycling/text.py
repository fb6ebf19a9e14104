"""Calibration text: windows of tokens to fit to, and windows of other documents to measure on.

Shapes: N windows, T tokens of a window.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from turnout.errors import TaskError
from turnout.runs.json_files import sha256
from turnout.tasks import load_tasks
from turnout.tasks.prompts import encode_text, plain_prompt
from turnout.upcycling.config import UpcycleConfig

_PIECE = 2000  # characters of a document of a plain text file


@dataclass(frozen=True)
class CalibrationText:
    """Windows of token ids [N, T]; no document contributes to both. `files`: name and digest of each file."""

    fitted: Tensor
    held_out: Tensor
    files: tuple[dict[str, str], ...]


def read_text(files: Sequence[str | Path], tokenizer: Any, config: UpcycleConfig) -> CalibrationText:
    """Read the windows of `files`, the same for the same seed; each file contributes an equal share.

    A .txt file is split at line ends into documents of about 2,000 characters; of any other file, as `load_tasks` reads
    it, each row is a document: a text, or a question's prompt. Documents are joined in random order, with the
    tokenizer's end-of-text token between them, up to `config.tokens` + `config.held_out` tokens. Where the text is
    shorter, the held-out share remains.

    Raises:
        TaskError: a file that cannot be read, or that is too short for one window of either kind.
    """
    if not files:
        raise TaskError("text", expected="at least one file of calibration text", received="none")
    fitted: list[Tensor] = []
    held_out: list[Tensor] = []
    for file in files:
        documents = list(dict.fromkeys(_documents(Path(file))))
        random.Random(config.seed).shuffle(documents)  # noqa: S311  not a secret
        limits = -(-config.tokens // len(files)), -(-config.held_out // len(files))
        parts = _parts(_encoded(documents, tokenizer), *limits)
        for kind, part, limit, windows in zip(("fit to", "measure on"), parts, limits, (fitted, held_out), strict=True):
            windows.append(_windows(part, limit, config.length, f"{file}, to {kind}"))
    described = tuple({"name": Path(file).name, "sha256": sha256(Path(file))} for file in files)
    return CalibrationText(torch.cat(fitted), torch.cat(held_out), described)


def _documents(path: Path) -> Iterator[str]:
    if path.suffix.lower() != ".txt":
        yield from (plain_prompt(question) for question in load_tasks(path).questions)
        return
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(path, expected="a file of text in UTF-8", received=error) from error
    piece: list[str] = []
    for line in text.splitlines(keepends=True):
        piece.append(line)
        if sum(map(len, piece)) >= _PIECE:
            yield "".join(piece)
            piece = []
    if any(line.strip() for line in piece):
        yield "".join(piece)


def _encoded(documents: Iterable[str], tokenizer: Any) -> Iterator[list[int]]:
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    for document in documents:
        yield [*encode_text(tokenizer, document), *end]


def _parts(documents: Iterable[list[int]], tokens: int, held_out: int) -> tuple[list[int], list[int]]:
    """Tokens to fit to and tokens held out, each of whole documents."""
    taken: list[list[int]] = []
    total = 0
    for ids in documents:
        # The last document of either part may be cut, so one more than enough is taken.
        taken.append(ids)
        total += len(ids)
        if total >= tokens + held_out + 2 * max(map(len, taken)):
            break
    enough = min(held_out, total * held_out / (tokens + held_out))
    held: list[int] = []
    while taken and len(held) < enough:
        held += taken.pop()
    return [i for ids in taken for i in ids], held


def _windows(ids: Sequence[int], limit: int, length: int, where: str) -> Tensor:
    n = min(len(ids), max(limit, length)) // length
    if n == 0:
        do = "pass more text, in several documents, or a smaller --length"
        raise TaskError(where, expected=f"at least one window of {length} tokens", received=f"{len(ids)} tokens", do=do)
    return torch.tensor(ids[: n * length]).view(n, length)
