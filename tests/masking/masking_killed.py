"""Maskings in forked children that are killed at random moments, then resumed. Prints one JSON object.

A process of its own, with one thread, so that children can be forked at all. Usage: python masking_killed.py FOLDER
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
from auditing.killed import outcome
from auditing.tiny_tasks import task_set
from listeners import Recorder
from tiny import random_model, tiny_tokenizer

from turnout import audit, mask
from turnout.models.wrap.anatomy import read


def child(work):
    """Fork; the child works and leaves without clean-up. This process runs nothing that starts threads."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)


def figures(path):
    return {file.name: file.read_bytes() for file in [path / "masking.json", *(path / "tables").iterdir()]}


def main(folder):
    torch.set_num_threads(1)
    moe, run = read(random_model("olmoe", num_hidden_layers=2), tiny_tokenizer(), "tiny"), folder / "run"

    def masking(path):
        lines = []
        mask(run, moe, path, layers="each", controls=1, listener=Recorder(lines))
        (folder / "said").write_text("".join(line for line in lines if "again" in line))

    assert outcome(child(lambda: audit(moe, task_set(12, longest=3), run, token_budget=256))) == "done"
    assert outcome(child(lambda: masking(folder / "unbroken"))) == "done"
    rng, path, left = random.Random(0), folder / "mask", []
    for n_pieces in (1, 2):
        left.append(kill_behind(child(lambda: masking(path)), path, n_pieces, rng))
    assert outcome(child(lambda: masking(path))) == "done"
    same = figures(path) == figures(folder / "unbroken")
    print(json.dumps({"left": left, "same": same, "said": (folder / "said").read_text()}))


def kill_behind(pid, path, n_pieces, rng):
    """Kill the child at a random moment after `n_pieces`; the number of pieces it left, or -1 if it had finished."""
    while len(list(path.glob("tables/scores_*"))) < n_pieces and not os.waitpid(pid, os.WNOHANG)[0]:
        time.sleep(0.01)
    time.sleep(rng.uniform(0, 0.1))
    os.kill(pid, signal.SIGKILL)
    return len(list(path.glob("tables/scores_*"))) if outcome(pid) == "killed" else -1


if __name__ == "__main__":
    main(Path(sys.argv[1]))
