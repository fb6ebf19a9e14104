"""Train in forked children that kill themselves at chosen moments, resume, and print the outcomes as JSON.

Run as a process of its own, so that children fork before any thread runs: python killed.py FOLDER
"""

import json
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ["OMP_NUM_THREADS"] = "1"

import torch
from safetensors.torch import load_file
from training.texts import write_recipe
from transformers import TrainerCallback

from turnout import TrainRecipe, train
from turnout.training import checkpoints
from turnout.training.result import MODEL
from turnout.training.run import CHECKPOINTS

torch.set_num_threads(1)


class DieAt(TrainerCallback):
    """SIGKILL after an optimizer step."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def die_before_the_mark(step):
    """SIGKILL when checkpoint `step` is written but not yet marked, with its last file cut in half."""
    real = checkpoints.mark

    def mark(checkpoint):
        if checkpoint.name == f"checkpoint-{step}":
            weights = checkpoint / "model.safetensors"
            weights.write_bytes(weights.read_bytes()[:100])
            os.kill(os.getpid(), signal.SIGKILL)
        real(checkpoint)

    checkpoints.mark = mark


def in_child(recipe, out, callbacks=(), before=lambda: None):
    """Train in a fork; returns the signal that ended it, or its result."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            before()
            result = train(recipe, out, callbacks=callbacks).to_dict()
            os.write(writer, json.dumps(result).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    written = os.read(reader, 10_000)
    status = os.waitpid(pid, 0)[1]
    return json.loads(written) if written else {"signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0}


def same_weights(one, two):
    a, b = load_file(one / MODEL / "model.safetensors"), load_file(two / MODEL / "model.safetensors")
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def main(folder):
    recipe = TrainRecipe.load(write_recipe(folder))
    whole, killed, torn = (folder / name for name in ("whole", "killed", "torn"))
    in_child(recipe, whole)
    outcomes = {
        "first": in_child(recipe, killed, [DieAt(6)]),
        "kept": sorted(p.name for p in (killed / CHECKPOINTS).iterdir()),
        "second": in_child(recipe, killed, [DieAt(11)]),
        "third": in_child(recipe, killed),
        "same": same_weights(whole, killed),
        "torn": in_child(recipe, torn, before=lambda: die_before_the_mark(8)),
        "torn_kept": sorted(p.name for p in (torn / CHECKPOINTS).iterdir()),
        "torn_resumed": in_child(recipe, torn),
        "torn_same": same_weights(whole, torn),
    }
    half = TrainRecipe.load(write_recipe(folder, precision="bfloat16"))
    in_child(half, folder / "half")
    outcomes["half"] = in_child(half, folder / "half-killed", [DieAt(6)])
    outcomes["half_resumed"] = in_child(half, folder / "half-killed")
    outcomes["half_same"] = same_weights(folder / "half", folder / "half-killed")
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
