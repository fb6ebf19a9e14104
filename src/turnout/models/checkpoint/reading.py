"""Read stored weights or parts of them, as floats whatever they are stored as."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from torch import Tensor

from turnout.models.checkpoint.files import Stored
from turnout.models.checkpoint.quantized import Quantized, dequantize

SliceOf = Callable[[Path, str], Any]
"""The tensor of that name in that file, as a safetensors slice."""


class Part(Protocol):
    """A stored weight that is read when it is indexed, by integers, slices or `...`."""

    def __getitem__(self, index: Any) -> Tensor: ...


def part_of(name: str, stored: Stored, slice_of: SliceOf, dtype: torch.dtype = torch.float32) -> Part:
    """The weight `name` as a part that can be indexed; `dtype` is that of dequantized weights, others keep theirs."""
    if not isinstance(stored, Quantized):
        return slice_of(stored.file, name)
    return _Dequantized(stored, slice_of, dtype)


class _Dequantized:
    """A weight stored as codes and scales; of stacked matrices one is dequantized at a time."""

    def __init__(self, stored: Quantized, slice_of: SliceOf, dtype: torch.dtype) -> None:
        self._stored, self._slice_of, self._dtype = stored, slice_of, dtype

    def __getitem__(self, index: Any) -> Tensor:
        first, rest = (index[0], index[1:]) if isinstance(index, tuple) else (index, ())
        if len(self._stored.shape) < 3:
            return self._matrix(...)[index]
        if isinstance(first, int):
            return self._matrix(first)[rest or ...]
        chosen = range(self._stored.shape[0])[slice(None) if first is Ellipsis else first]
        out = torch.empty(len(chosen), *self._stored.shape[1:], dtype=self._dtype)
        for at, number in enumerate(chosen):
            out[at] = self._matrix(number)
        return out[(slice(None), *rest)]

    def _matrix(self, at: Any) -> Tensor:
        """One matrix of the stack, or all of a tensor that is none."""
        codes = self._slice_of(self._stored.file, self._stored.codes)[at]
        scales = self._slice_of(self._stored.scales_file, self._stored.scales)
        shape = tuple(scales.get_shape())
        per_matrix = at is not Ellipsis and len(shape) > 0 and shape[0] == self._stored.shape[0]
        factors = scales[at] if per_matrix else scales[...].reshape(shape[1:] if len(shape) > 2 else shape)
        return dequantize(codes, factors, self._stored.block).to(self._dtype)


def read_weight(name: str, stored: Stored) -> Tensor:
    """The whole weight `name`, dequantized where stored as codes."""

    def slice_of(file: Path, tensor: str) -> Any:
        return safe_open(file, framework="pt").__enter__().get_slice(tensor)

    return part_of(name, stored, slice_of)[...]
