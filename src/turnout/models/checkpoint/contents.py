"""Contents of a checkpoint: weight files, tensors, format and leftovers, decided in one place for every verb."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from turnout.errors import ModelError
from turnout.models.checkpoint.files import Stored, check_weight_file, read_headers, read_object, weight_files
from turnout.models.checkpoint.leftovers import is_leftover
from turnout.models.checkpoint.quantized import Quantized, weight_of, weights_in
from turnout.models.wrap.families import register_own


@dataclass(frozen=True, eq=False)
class Contents:
    """What a checkpoint's files contain, by their headers.

    Attributes:
        folder: the folder of the files.
        config: the content of config.json.
        files: the weight files.
        weights: name → the stored tensor; codes and scales of a known quantization are one `Quantized`.
        file_notes: files that look like weights and are not read.
    """

    folder: Path
    config: Mapping[str, Any]
    files: tuple[Path, ...]
    weights: Mapping[str, Stored]
    file_notes: tuple[str, ...]

    @property
    def quantized(self) -> bool:
        """Whether some weights are codes with scales that this package reads as floats."""
        return any(isinstance(stored, Quantized) for stored in self.weights.values())

    @cached_property
    def n_layers(self) -> int | None:
        """Number of decoder layers by the configuration; None if it states none."""
        text = self.config.get("text_config")
        number = (text if isinstance(text, dict) else self.config).get("num_hidden_layers")
        return number if isinstance(number, int) else None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of a result should know: unread files, dequantized weights, leftovers."""
        kinds = sorted({stored.dtype for stored in self.weights.values() if isinstance(stored, Quantized)})
        read = (f"weights stored in {' and '.join(kinds)} are dequantized",) if kinds else ()
        leftovers = [name for name in self.weights if is_leftover(name, self.n_layers)]
        return (*self.file_notes, *read, *unused_note(leftovers))


def read_contents(
    folder: Path, trust_remote_code: bool = False, wanted: Callable[[str], bool] | None = None
) -> Contents:
    """The contents of a checkpoint folder; no weight is loaded.

    Args:
        folder: the folder.
        trust_remote_code: accept a model type whose code is in the checkpoint.
        wanted: the weights that are needed, by name; None for all. Files without any, by the index, may be missing, and
            the model type is not checked.

    Raises:
        ModelError: as `weight_files` and `weights_in`; a damaged file or configuration; a model type that transformers
            does not have, or code in the checkpoint without `trust_remote_code`. The message names the file.
    """
    config = read_object(folder / "config.json")
    if wanted is None:
        _check_type(config, folder / "config.json", trust_remote_code)
    found = weight_files(folder, config)
    files = found.files
    if wanted is not None and found.weight_map is not None:
        files = tuple(sorted({folder / f for name, f in found.weight_map.items() if wanted(weight_of(name))}))
    return contents_of(folder, config, files, wanted, found.notes)


def contents_of(
    folder: Path,
    config: Mapping[str, Any],
    files: Sequence[Path],
    wanted: Callable[[str], bool] | None = None,
    notes: tuple[str, ...] = (),
) -> Contents:
    """The contents of chosen weight files of a checkpoint; see `read_contents`."""
    for file in files:
        check_weight_file(file)
    tensors = read_headers(files, lambda name: wanted is None or wanted(weight_of(name)))
    return Contents(folder, config, tuple(files), weights_in(tensors, config, folder), notes)


def unused_note(names: Iterable[str]) -> tuple[str, ...]:
    """A note that names tensors which the model does not use; empty for none."""
    listed = sorted(names)
    if not listed:
        return ()
    rest = f" and {len(listed) - 1} more" if len(listed) > 1 else ""
    return (f"stored and not used by the model: {listed[0]}{rest}",)


def _check_type(config: Mapping[str, Any], where: Path, trust_remote_code: bool) -> None:
    model_type = config.get("model_type")
    register_own(model_type)
    if "auto_map" in config and model_type not in CONFIG_MAPPING and not trust_remote_code:
        raise ModelError(
            where,
            expected=f"a model type of transformers, not {model_type!r}",
            received="auto_map, Python code in the checkpoint",
            do="pass trust_remote_code=True if you trust that code",
        )
    if "auto_map" not in config and model_type not in CONFIG_MAPPING:
        raise ModelError(where, expected="a model_type of transformers", received=repr(model_type))
