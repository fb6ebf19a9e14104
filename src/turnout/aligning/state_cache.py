"""Disk cache of hidden states: the tail's input for the real tokens of every prompt, in one memory-mapped file.

Shapes: T tokens of one prompt, H hidden size.
"""

import os
import shutil
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor

from turnout.models.forward.tail import Tail


class HiddenStateCache:
    """Hidden states of the first prompts, as many as fit; those of the other prompts are computed at every use.

    Args:
        path: the file; created, or read if `filled`.
        tail: computes what is not stored.
        prompts: token ids of every prompt.
        max_bytes: size limit of the file; it also takes at most half of the free disk space.
        filled: whether the file was filled before and is only read.
    """

    def __init__(
        self, path: Path, tail: Tail, prompts: Sequence[Sequence[int]], max_bytes: int, filled: bool = False
    ) -> None:
        self._tail, self._prompts, model = tail, prompts, tail.moe.model
        self._starts = [0, *accumulate(len(ids) for ids in prompts)]
        self._width = model.config.get_text_config().hidden_size
        row = self._width * torch.empty(0, dtype=model.dtype).element_size()
        free = max_bytes if filled else min(max_bytes, shutil.disk_usage(path.parent).free // 2)
        self.n_stored = sum(end * row <= free for end in self._starts[1:]) if tail.cut else 0
        if filled and self.n_stored:
            self.n_stored = min(self.n_stored, sum(end * row <= path.stat().st_size for end in self._starts[1:]))
        self.bytes = self._starts[self.n_stored] * row
        self._path, self._rows = path, torch.empty(0, self._width, dtype=model.dtype)
        if self.n_stored:
            size = self._starts[self.n_stored] * self._width
            self._rows = torch.from_file(str(path), shared=True, size=size, dtype=model.dtype).view(-1, self._width)

    def put(self, index: int, states_TH: Tensor) -> None:
        """Store the hidden states of prompt `index`, if it is among those that fit."""
        if index < self.n_stored:
            self._rows[self._starts[index] : self._starts[index + 1]] = states_TH.to(self._rows)

    def get(self, indices: Sequence[int]) -> list[Tensor]:
        """Hidden states [T, H] of each of the prompts `indices`; an empty list where the tail is the whole model."""
        if not self._tail.cut:
            return []
        absent = [i for i in indices if i >= self.n_stored]
        states = self._tail.run_below([self._prompts[i] for i in absent]) if absent else []
        computed = {i: states_TH.to(self._rows.device) for i, states_TH in zip(absent, states, strict=True)}
        return [computed[i] if i in computed else self._rows[self._starts[i] : self._starts[i + 1]] for i in indices]

    def flush(self) -> None:
        """Write the file to disk, so that it survives this process and a power cut."""
        if not self.n_stored:
            return
        descriptor = os.open(self._path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
