"""Files of a checkpoint folder, checked before anything is loaded, so that an error names the file."""

import json
import re
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from turnout.errors import ModelError
from turnout.models.wrap.families import register_own

INDEX = "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def checkpoint_folder(source: str) -> Path | None:
    """The folder that `source` names; None for a hub id; ModelError for neither."""
    path = Path(source).expanduser()
    if source and path.is_dir():
        return path
    if source and path.exists():
        raise ModelError(source, expected="a folder with config.json and safetensors weights", received="a file")
    if not _HUB_ID.fullmatch(source):
        raise ModelError(source, expected="a folder, or a hub id such as org/name", received="no such folder")
    return None


def check_folder(folder: Path, trust_remote_code: bool) -> None:
    """Check config.json and the headers of the weight files, without loading them; ModelError names the file."""
    config = read_object(folder / "config.json")
    model_type = config.get("model_type")
    register_own(model_type)
    if "auto_map" in config and model_type not in CONFIG_MAPPING and not trust_remote_code:
        raise ModelError(
            folder / "config.json",
            expected=f"a model type of transformers, not {model_type!r}",
            received="auto_map, Python code in the checkpoint",
            do="pass trust_remote_code=True if you trust that code",
        )
    if "auto_map" not in config and model_type not in CONFIG_MAPPING:
        raise ModelError(folder / "config.json", expected="a model_type of transformers", received=repr(model_type))
    for shard in weight_files(folder):
        check_weight_file(shard)


def weight_files(folder: Path) -> list[Path]:
    """The weight files of a folder, by its index, whether they exist or not; ModelError if it has only pickles."""
    if (folder / INDEX).exists():
        weight_map = read_object(folder / INDEX).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise ModelError(folder / INDEX, expected='a "weight_map" from weight to file', received=repr(weight_map))
        return sorted({folder / str(name) for name in weight_map.values()})
    if (folder / "model.safetensors").exists():
        return [folder / "model.safetensors"]
    pickles = sorted(p.name for pattern in _PICKLES for p in folder.glob(pattern))
    received = f"pickled weights only ({pickles[0]})" if pickles else "no weights"
    convert = "save it again with transformers' save_pretrained, which writes safetensors" if pickles else None
    raise ModelError(folder, expected="model.safetensors", received=received, do=convert)


def check_weight_file(shard: Path) -> None:
    """Check that a safetensors file exists and that its header matches its length."""
    if not shard.is_file():
        raise ModelError(shard, expected="the weights that the index names", received="no such file")
    try:
        with safe_open(shard, framework="pt"):
            return
    except (SafetensorError, OSError) as error:
        raise ModelError(
            shard, expected="a whole safetensors file", received=error, do="copy or download it again"
        ) from error


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; ModelError if there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(path.parent, expected=f"a checkpoint with {path.name}", received="none") from error
    except (OSError, ValueError) as error:
        raise ModelError(path, expected="JSON", received=error) from error
    if not isinstance(content, dict):
        raise ModelError(path, expected="a JSON object", received=type(content).__name__)
    return content
