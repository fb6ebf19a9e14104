"""Checkpoints of a training run: complete ones are marked; a run resumes with every weight of one."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

MARK = "complete.json"


class MarkComplete(TrainerCallback):  # type: ignore[misc]  # Any: transformers ships no types
    """Mark each checkpoint that the Trainer has finished writing. The Trainer must keep at least two."""

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> TrainerControl:
        """After all files of a checkpoint are written."""
        mark(Path(args.output_dir) / f"checkpoint-{state.global_step}")
        return control


def mark(checkpoint: Path) -> None:
    """Flush the checkpoint's files to disk, then write every file's size and digest as its mark."""
    content = {}
    for file in _files(checkpoint):
        _flush(file)
        content[file.name] = [file.stat().st_size, _digest(file)]
    part = checkpoint / f"part-{MARK}"
    part.write_text(json.dumps(content))
    _flush(part)
    part.replace(checkpoint / MARK)
    _flush(checkpoint)


def newest_complete(folder: Path) -> Path | None:
    """The last complete checkpoint in `folder`; None if there is none. Incomplete ones after it are removed."""
    newest_first = sorted(folder.glob("checkpoint-*"), key=lambda f: int(f.name.partition("-")[2]), reverse=True)
    for checkpoint in newest_first:
        if is_complete(checkpoint):
            return checkpoint
        shutil.rmtree(checkpoint)
    return None


def is_complete(checkpoint: Path) -> bool:
    """Whether the checkpoint has its mark, and every file the marked size and digest."""
    try:
        content: dict[str, list[object]] = json.loads((checkpoint / MARK).read_text())
    except (OSError, ValueError):
        return False
    files = {file.name: file for file in _files(checkpoint)}
    if set(files) != set(content):
        return False
    return all([file.stat().st_size, _digest(file)] == content[name] for name, file in files.items())


def _files(checkpoint: Path) -> list[Path]:
    return sorted(f for f in checkpoint.iterdir() if f.is_file() and f.name not in {MARK, f"part-{MARK}"})


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class StrictResume:
    """Mixin for a transformers Trainer, before it among a class's bases: resume with every weight, or fail.

    transformers' own loading matches weights by name and leniently. Experts are saved one by one but fused in memory,
    so that a resumed model would continue with the optimizer's state and untrained experts.
    """

    model: Any
    is_fsdp_enabled: bool
    is_deepspeed_enabled: bool

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: PreTrainedModel | None = None) -> None:
        """Load every weight of the checkpoint, or raise an error."""
        if self.is_fsdp_enabled or self.is_deepspeed_enabled or not isinstance(self.model, PreTrainedModel):
            super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]  # the Trainer's
            return
        target = model or self.model
        saved = type(target).from_pretrained(resume_from_checkpoint, dtype=target.dtype, use_safetensors=True)
        target.load_state_dict(saved.state_dict())
