"""The embedded default model: its path, corpora, recipe and evaluation. Importing this loads no torch."""

from importlib import resources
from pathlib import Path


def model_path() -> Path:
    """The embedded model's folder: config, safetensors and tokenizer, as transformers' `from_pretrained` reads them."""
    return Path(str(resources.files(__name__))) / "turnout-7m"
