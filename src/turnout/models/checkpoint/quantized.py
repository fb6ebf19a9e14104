"""Weights stored as codes and scales: which of them are known, and reading those as floats.

Known are float8 codes with scales (fine-grained blocks, one scale a row or a tensor, MXFP8) and MXFP4. They are
recognized by the tensors themselves, whether or not the configuration mentions them: codes read as weights would be
silently wrong. Any other method is left to transformers where it has a quantizer for it, and refused by name elsewhere.

Sources: DeepSeek-V3 (arXiv 2412.19437, section 3.3.2) for blocks of 128 × 128; OCP Microscaling Formats 1.0 for MXFP4.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from turnout.errors import ModelError
from turnout.models.checkpoint.files import Stored

FLOATS = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float64}
"""Safetensors' names of the dtypes that weights are read in as they are."""

EXPECTED = "weights as floats, in float8 with scales or in MXFP4"
_CODES = ("F8_E4M3", "F8_E5M2")
_EXPONENTS = ("F8_E8M0", "U8")  # a scale stored as the exponent of a power of two
_SCALE_OF = ("{}_scale_inv", "{}_scale", "{stem}.scale", "{stem}.scale_inv", "{stem}.qscale_weight")
_ACTIVATIONS = re.compile(
    r"[._](input|output|activation|act|k|v|kv|q|prob)_?scale(_inv|_ub)?$|\.kv_cache_scaling_factor$"
)
_FOREIGN = {  # endings of tensors that only one method stores
    ".SCB": "bitsandbytes (8 bit)",
    ".absmax": "bitsandbytes (4 bit)",
    ".qzeros": "GPTQ or AWQ",
    ".qweight": "GPTQ or AWQ",
    ".weight_global_scale": "NVFP4",
    ".weight_scale_2": "NVFP4",
    ".weight_packed": "compressed-tensors (packed)",
    ".weight_zero_point": "compressed-tensors (asymmetric)",
    ".weight._data": "quanto",
}
_PART = re.compile(r"(?:_blocks|_scales|_scale|_scale_inv)$")
_BLOCK = 128
_E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)


@dataclass(frozen=True)
class Quantized(Stored):
    """A weight stored as codes and scales; `shape` is the weight's, `dtype` the codes'.

    Attributes:
        codes: name of the tensor with the codes.
        scales: name of the tensor with their scales.
        scales_file: the file that contains them.
        block: rows and columns that share a scale; None for MXFP4.
    """

    codes: str
    scales: str
    scales_file: Path
    block: tuple[int, int] | None


def weights_in(tensors: Mapping[str, Stored], config: Mapping[str, Any], where: object) -> dict[str, Stored]:
    """The weights that a checkpoint contains, by name: codes and their scales become one `Quantized`.

    Args:
        tensors: every stored tensor, by name.
        config: the content of config.json.
        where: the checkpoint, as an error names it.

    Raises:
        ModelError: weights quantized with a method that neither this package nor transformers can read, or codes
            without scales.
    """
    method = quantization_method(config)
    if method in AUTO_QUANTIZATION_CONFIG_MAPPING and (_foreign(tensors) or _integers(tensors)):
        return dict(tensors)  # transformers' own
    weights: dict[str, Stored] = {}
    used = set()
    for name in tensors:
        weight = _mxfp4(name, tensors) or _float8(name, tensors, _block_size(config), where)
        if weight is not None:
            weights[name.removesuffix("_blocks") if weight.block is None else name] = weight
            used |= {name, weight.scales}
    _refuse_others(tensors, used, method, where)
    return {
        name: stored for name, stored in tensors.items() if name not in used and not _is_spare(name, used)
    } | weights


def weight_of(name: str) -> str:
    """The weight that a tensor with codes or scales belongs to; any other name itself."""
    beside = next((ending for ending in (".scale", ".scale_inv", ".qscale_weight") if name.endswith(ending)), None)
    return _PART.sub("", name) if beside is None else f"{name.removesuffix(beside)}.weight"


def quantization_method(config: Mapping[str, Any]) -> str | None:
    """The quantization method that a configuration names; None for an unquantized one."""
    text = config.get("text_config")
    nested = text.get("quantization_config") if isinstance(text, dict) else None
    stated = config.get("quantization_config") or config.get("compression_config") or nested
    if not isinstance(stated, dict):
        return None
    if stated.get("load_in_4bit") or stated.get("load_in_8bit"):
        return "bitsandbytes_4bit" if stated.get("load_in_4bit") else "bitsandbytes_8bit"
    return str(stated.get("quant_method", "an unnamed method"))


def dequantize(codes: Tensor, scales: Tensor, block: tuple[int, int] | None) -> Tensor:
    """Weights in float32 from codes and scales; see `Quantized`.

    Args:
        codes: float8 [..., R, C], or bytes [..., R, G, 16] of MXFP4, two codes each.
        scales: a factor for each block of codes, or for all; bytes and E8M0 are exponents of two, offset by 127.
        block: rows and columns that share a scale; None for MXFP4.

    Returns:
        [..., R, C]; of MXFP4 [..., 32·G, R], transposed as transformers stores those experts.
    """
    if block is None:
        return _from_mxfp4(codes, scales)
    factors = _factors(scales)
    if factors.numel() > 1:
        rows, columns = codes.shape[-2:]
        factors = factors.view(*factors.shape, *[1] * (codes.dim() - factors.dim()))
        factors = factors.repeat_interleave(block[0], -2)[..., :rows, :].repeat_interleave(block[1], -1)[..., :columns]
    return codes.float() * factors


def _mxfp4(name: str, tensors: Mapping[str, Stored]) -> Quantized | None:
    scales = f"{name.removesuffix('_blocks')}_scales"
    stored, scale = tensors[name], tensors.get(scales)
    if not name.endswith("_blocks") or scale is None or stored.dtype != "U8" or scale.shape != stored.shape[:-1]:
        return None
    *leading, rows, groups, width = stored.shape
    return Quantized(stored.file, (*leading, 2 * groups * width, rows), "MXFP4", name, scales, scale.file, None)


def _float8(
    name: str, tensors: Mapping[str, Stored], stated: tuple[int, int] | None, where: object
) -> Quantized | None:
    """A float8 weight with its scales; None for a tensor of another dtype, and for a scale stored in float8."""
    stored = tensors[name]
    if stored.dtype not in _CODES or _is_scale(name):
        return None
    stem = name.removesuffix(".weight")
    scales = next((s for form in _SCALE_OF if (s := form.format(name, stem=stem)) in tensors), None)
    if scales is None:
        received = f"{stored.dtype} codes without scales in {name}"
        raise ModelError(where, expected=EXPECTED, received=received)
    block = _block(stored.shape, tensors[scales].shape, stated)
    if block is None or tensors[scales].dtype not in (*FLOATS, *_EXPONENTS):
        received = f"{tensors[scales].dtype}{list(tensors[scales].shape)} for {name} {list(stored.shape)}"
        raise ModelError(where, expected="scales of blocks, of rows or of the whole tensor", received=received)
    return Quantized(stored.file, stored.shape, stored.dtype, name, scales, tensors[scales].file, block)


def _block(codes: tuple[int, ...], scales: tuple[int, ...], stated: tuple[int, int] | None) -> tuple[int, int] | None:
    """Rows and columns that share a scale; None if the shapes do not fit.

    The last block of a row or column may be a part: 192 rows with two scales are blocks of 128 and 64, not twice 96.
    """
    rows, columns = codes[-2:] if len(codes) > 1 else (codes[-1], 1)
    if 0 in scales or 0 in codes:
        return None
    if torch.Size(scales).numel() == 1:
        return rows, columns
    if scales == codes[:1]:  # one scale a row, or an expert
        return (1, columns) if len(codes) == 2 else (rows, columns)
    if len(scales) != len(codes) or any(s not in (1, c) for s, c in zip(scales[:-2], codes[:-2], strict=True)):
        return None
    grid = scales[-2:]

    def fits(block: tuple[int, int]) -> bool:
        return (-(-rows // block[0]), -(-columns // block[1])) == tuple(grid)

    for block in (stated, (1, columns), (rows, 1), (rows, columns), (_BLOCK, _BLOCK)):
        if block is not None and fits(block):
            return block
    exact = (rows // grid[0], columns // grid[1])
    divides = rows % grid[0] == 0 and columns % grid[1] == 0
    return exact if divides and all(size & (size - 1) == 0 for size in exact) else None


def _block_size(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """The block size that a configuration states."""
    stated = config.get("quantization_config") or {}
    size = stated.get("weight_block_size") if isinstance(stated, dict) else None
    if not isinstance(size, Sequence) or len(size) != 2 or not all(isinstance(n, int) and n > 0 for n in size):
        return None
    return size[0], size[1]


def _refuse_others(tensors: Mapping[str, Stored], used: set[str], method: str | None, where: object) -> None:
    """Refuse what is quantized in another way; codes and scales in `used` are not."""
    name, found = _foreign(tensors) or (_integers(tensors), "an unnamed method")
    if name is None and (used or method is None or method in AUTO_QUANTIZATION_CONFIG_MAPPING):
        return
    received = f"weights quantized with {method or found}" + (f" ({name})" if name else "")
    do = "pass the checkpoint that it was made from"
    raise ModelError(where, expected=EXPECTED, received=received, do=do)


def _foreign(tensors: Mapping[str, Stored]) -> tuple[str, str] | None:
    """A tensor that shows another method than float8 with scales and MXFP4, and that method."""
    return next(
        ((name, method) for name in tensors for ending, method in _FOREIGN.items() if name.endswith(ending)), None
    )


def _integers(tensors: Mapping[str, Stored]) -> str | None:
    """A weight that is stored in integers, bytes or packed values."""
    known = (*FLOATS, *_CODES)
    return next(
        (name for name, stored in tensors.items() if name.endswith(".weight") and stored.dtype not in known), None
    )


def _is_scale(name: str) -> bool:
    return name.endswith(("_scale", "_scale_inv", ".scale", ".scale_inv")) or _ACTIVATIONS.search(name) is not None


def _is_spare(name: str, used: set[str]) -> bool:
    """Whether a tensor is a scale of activations beside quantized weights: those are computed in floats here."""
    return bool(used) and _ACTIVATIONS.search(name) is not None


def _factors(scales: Tensor) -> Tensor:
    """Scales as float32 factors."""
    if scales.dtype == torch.uint8 or scales.dtype == torch.float8_e8m0fnu:
        return (scales.view(torch.uint8).float() - 127).exp2()
    return scales.float()


def _from_mxfp4(blocks: Tensor, scales: Tensor) -> Tensor:
    values = torch.tensor(_E2M1, dtype=torch.float32)
    pairs = torch.stack([values[(blocks & 0xF).long()], values[(blocks >> 4).long()]], -1).flatten(-2)
    return (pairs * _factors(scales).unsqueeze(-1)).flatten(-2).mT
