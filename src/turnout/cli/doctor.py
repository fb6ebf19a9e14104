"""`turnout doctor`: installed packages, devices, and the verbs that can run."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Mapping

from turnout.cli.command import Json, command, print_json
from turnout.cli.console import print_table

# What each verb stands on, beyond what importing turnout needs.
_NEEDS = {
    "audit": ("torch", "transformers", "safetensors", "pyarrow"),
    "audit --tasks mmlu-dev": ("lm_eval",),
    "audit --tasks mmlu (hub)": ("datasets",),
    "report": ("plotly", "polars"),
    "train": ("accelerate", "tokenizers"),
}


@command()
def doctor(json: Json = False) -> None:
    """List installed packages, devices, and the verbs that can run."""
    result: dict[str, Mapping[str, object]] = {"versions": _versions(), "device": _devices(), "verbs": _verbs()}
    if json:
        print_json(result)
        return
    for title, rows in result.items():
        print_table([title, ""], [[name, str(value)] for name, value in rows.items()])
        print()


def _versions() -> dict[str, str | None]:
    packages = "turnout torch transformers accelerate safetensors tokenizers lm_eval datasets pyarrow polars plotly"
    return {"python": platform.python_version()} | {name: _version(name) for name in packages.split()}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices() -> dict[str, object]:
    import torch

    return {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "cuda": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "mps": torch.backends.mps.is_available(),
        "chromium": shutil.which("chromium") or shutil.which("google-chrome"),
    }


def _verbs() -> dict[str, str]:
    missing = {
        name: [need for need in needs if importlib.util.find_spec(need) is None] for name, needs in _NEEDS.items()
    }
    return {name: f"needs {', '.join(gone)}" if gone else "can run" for name, gone in missing.items()}
