"""Audits in forked children, killed a random moment behind every shard, then resumed. Prints one JSON object.

A process of its own, with one thread, so that children start fast and can be forked at all.
Usage: python killed.py FOLDER
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
from auditing.asked import task_set
from auditing.few import few_draws
from tiny import random_model, tiny_tokenizer

from turnout import audit
from turnout.listener import Listener
from turnout.models.wrap.anatomy import read


class DamageFile(Listener):
    """Writes a note about damage to a file; the only other note is that a run is complete."""

    def __init__(self, folder):
        self.folder = folder

    def note(self, line):
        if "complete" not in line:
            (self.folder / "said").write_text(line)


def child(moe, tasks, path):
    """Fork; the child audits and leaves without clean-up."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        audit(moe, tasks, path, token_budget=128, listener=DamageFile(path.parent))
        code = 0
    finally:
        os._exit(code)


def ended(pid):
    status = os.waitpid(pid, 0)[1]
    return "killed" if os.WIFSIGNALED(status) else "done" if os.waitstatus_to_exitcode(status) == 0 else "failed"


def figures(path):
    files = [path / "audit.json", *(path / "tables").iterdir()]
    return {file.name: file.read_bytes() for file in files}


def shards(path):
    index = path / "trace/index.jsonl"
    return len(index.read_text().splitlines()) if index.exists() else 0


def kill_behind(pid, path, n_shards, rng):
    """Kill the child a random moment after it has listed `n_shards`; how it ended."""
    while shards(path) < n_shards and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        time.sleep(0.001)
    time.sleep(rng.uniform(0, 0.05))
    os.kill(pid, signal.SIGKILL)
    return ended(pid)


def main(folder):
    torch.set_num_threads(1)
    few_draws(setattr)
    model = random_model("olmoe", num_hidden_layers=1)
    moe, tasks = read(model, tiny_tokenizer(), "tiny"), task_set(48, longest=4)
    assert ended(child(moe, tasks, folder / "unbroken")) == "done"
    unbroken, whole = figures(folder / "unbroken"), shards(folder / "unbroken")
    rng, kills, left, same = random.Random(0), 0, set(), []
    for name in ("once", "again"):
        path = folder / name
        for n_shards in range(whole + 1):
            kills += kill_behind(child(moe, tasks, path), path, n_shards, rng) == "killed"
            left.add(shards(path))
        assert ended(child(moe, tasks, path)) == "done"
        same.append(figures(path) == unbroken)
    print(json.dumps({"kills": kills, "same": same, "left": sorted(left), "said": (folder / "said").exists()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
