"""Load a checkpoint whose weights are codes and scales as a model in floats, one tensor at a time.

transformers keeps such weights as they are on some devices, where neither a router nor an expert could be read, and
dequantizes them by dividing a matrix into equal blocks, which the last block of a row or column need not be.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedConfig, PreTrainedModel

from turnout.models.checkpoint.contents import Contents
from turnout.models.checkpoint.reading import Part, part_of


def load_dequantized(
    contents: Contents,
    source: str,
    dtype: torch.dtype | str,
    devices: Mapping[str, Any],
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The model of a quantized checkpoint in floats, and transformers' loading report.

    Args:
        contents: the checkpoint.
        source: the folder or hub id, for the model's `name_or_path`.
        dtype: a torch dtype; "auto" is the configuration's, bfloat16 if it states none.
        devices: arguments of `from_pretrained` that place the weights.
        trust_remote_code: run the checkpoint's own Python code.
    """
    folder, trust = str(contents.folder), {"trust_remote_code": trust_remote_code}
    config = _unquantized(AutoConfig.from_pretrained(folder, **trust))
    with torch.device("meta"):
        shell = AutoModelForCausalLM.from_config(config, **trust)
    stated = getattr(shell.config, "dtype", None)
    dtype = dtype if isinstance(dtype, torch.dtype) else stated if isinstance(stated, torch.dtype) else torch.bfloat16
    with _open_weights(contents, dtype) as weights:
        model, report = type(shell).from_pretrained(
            None, config=shell.config, state_dict=weights, dtype=dtype, output_loading_info=True, **devices
        )
    model.config._name_or_path = source
    if model.can_generate() and (contents.folder / "generation_config.json").exists():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    return model, report


@contextmanager
def _open_weights(contents: Contents, dtype: torch.dtype) -> Iterator[dict[str, Part]]:
    """Every weight of a checkpoint by name, read when transformers indexes it; its files are open inside the block."""
    with ExitStack() as stack:
        files = {file: stack.enter_context(safe_open(file, framework="pt")) for file in contents.files}

        def slice_of(file: Path, name: str) -> Any:
            return files[file].get_slice(name)

        yield {name: part_of(name, stored, slice_of, dtype) for name, stored in contents.weights.items()}


def _unquantized(config: PreTrainedConfig) -> PreTrainedConfig:
    """`config` without what it states of a quantization: the weights are passed on as floats."""
    for one in {id(c): c for c in (config, config.get_text_config())}.values():
        if hasattr(one, "quantization_config"):
            del one.quantization_config
    return config
