"""Checkpoints with weights stored as codes and scales, made from floats by plain loops, and the floats they mean."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

E2M1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0]


def in_float8(matrix, block):
    """Codes, scales, one for each block, and what both mean in floats."""
    rows, columns = matrix.shape
    grid = (-(-rows // block[0]), -(-columns // block[1]))
    codes, scales = torch.zeros(rows, columns, dtype=torch.float8_e4m3fn), torch.zeros(grid)
    meant = torch.zeros(rows, columns)
    for i in range(grid[0]):
        for j in range(grid[1]):
            at = slice(i * block[0], (i + 1) * block[0]), slice(j * block[1], (j + 1) * block[1])
            scales[i, j] = matrix[at].abs().max() / 448
            codes[at] = (matrix[at] / scales[i, j]).to(torch.float8_e4m3fn)
            meant[at] = codes[at].float() * scales[i, j]
    return codes, scales, meant


def store_in_float8(folder, kind, block=(128, 128), name="weight_scale", config=None):
    """Replace every projection of a checkpoint by float8 codes; returns every weight as the floats that are meant.

    `kind` is "block", "row" or "tensor".
    """
    file, stored, meant = Path(folder) / "model.safetensors", {}, {}
    for tensor, matrix in load_file(file).items():
        stored[tensor] = meant[tensor] = matrix
        if matrix.dim() == 2 and tensor.endswith("proj.weight"):
            size = {"block": block, "row": (1, matrix.shape[1]), "tensor": matrix.shape}[kind]
            codes, scales, meant[tensor] = in_float8(matrix, size)
            stored[tensor] = codes
            stored[tensor.removesuffix("weight") + name] = scales.reshape(()) if kind == "tensor" else scales
    save_file(stored, file, metadata={"format": "pt"})
    edit_config(folder, **(config or {}))
    return meant


def store_in_mxfp4(folder, config=None):
    """Replace the experts' matrices of a gpt-oss checkpoint by random blocks and scales; returns what they mean."""
    file, stored, meant = Path(folder) / "model.safetensors", {}, {}
    generator = torch.Generator().manual_seed(0)
    for tensor, value in load_file(file).items():
        stored[tensor] = meant[tensor] = value
        if not tensor.endswith(("experts.gate_up_proj", "experts.down_proj")):
            continue
        del stored[tensor]
        experts, columns, rows = value.shape
        blocks = torch.randint(256, (experts, rows, columns // 32, 16), generator=generator, dtype=torch.uint8)
        scales = torch.randint(120, 128, (experts, rows, columns // 32), generator=generator, dtype=torch.uint8)
        stored[f"{tensor}_blocks"], stored[f"{tensor}_scales"] = blocks, scales
        meant[tensor] = torch.empty(experts, columns, rows)
        for e in range(experts):
            for row in range(rows):
                for column in range(columns):
                    byte = int(blocks[e, row, column // 32, column % 32 // 2])
                    code = byte >> 4 if column % 2 else byte & 0xF
                    exponent = int(scales[e, row, column // 32]) - 127
                    meant[tensor][e, column, row] = E2M1[code] * 2.0**exponent
    save_file(stored, file, metadata={"format": "pt"})
    edit_config(folder, **(config or {}))
    return meant


def edit_config(folder, **changes):
    file = Path(folder) / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
