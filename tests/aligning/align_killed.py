"""Alignments in forked children, killed during training, then resumed. Prints one JSON object.

A separate process with one thread, so that children can be forked. Usage: python align_killed.py FOLDER
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from aligning.questions import distinct_questions
from auditing.killed import outcome
from tiny import random_model, tiny_tokenizer

from turnout import align
from turnout.aligning.training import Checkpoint
from turnout.models.wrap.anatomy import read

CHECKPOINT = ".work/checkpoint.safetensors"


def child(work):
    """Fork; the child works and exits without clean-up. This process starts no threads."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)


def main(folder):
    torch.set_num_threads(1)
    moe = read(random_model("olmoe", num_hidden_layers=2), tiny_tokenizer(), "tiny")
    options = {"embedder": "model", "layers": "last-1", "learning_rate": 1e-2, "batch_size": 8, "epochs": 12}
    tasks, test = distinct_questions(24, longest=3), distinct_questions(6, "test", longest=3)

    def work(path):
        return lambda: align(moe, tasks, test, path, save_every=2, **options)

    assert outcome(child(work(folder / "unbroken"))) == "done"
    rng, path, steps = random.Random(0), folder / "killed", []
    steps.append(killed(child(work(path)), path, lambda: (path / ".work/states.bin").exists(), rng))
    for least in (3, 11):
        steps.append(killed(child(work(path)), path, lambda n=least: step(path) >= n, rng))
    assert outcome(child(work(path))) == "done"
    same = {
        str(f.relative_to(folder / "unbroken")): f.read_bytes()
        == (path / f.relative_to(folder / "unbroken")).read_bytes()
        for f in (folder / "unbroken").rglob("*")
        if f.is_file() and f.name not in ("manifest.json", "report.html", ".lock")
    }
    print(json.dumps({"steps": steps, "same": same, "left": (path / ".work").exists()}))


def step(path):
    checkpoint = Checkpoint.read(path / CHECKPOINT)
    return checkpoint.step if checkpoint else -1


def killed(pid, path, ready, rng):
    """Kill the child a random moment after `ready`; the last stored step, None if the child had finished."""
    while not ready() and not os.waitpid(pid, os.WNOHANG)[0]:
        time.sleep(0.002)
    time.sleep(rng.uniform(0, 0.03))
    os.kill(pid, signal.SIGKILL)
    return step(path) if outcome(pid) == "killed" else None


if __name__ == "__main__":
    main(Path(sys.argv[1]))
