"""Audits in forked children, killed at a random moment after every shard, then resumed. Prints one JSON object.

A separate process with one thread, so that children start fast and can be forked.
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
from auditing.few import few_draws
from auditing.tiny_tasks import task_set
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
            (self.folder / "damage.txt").write_text(line)


def child(moe, tasks, path):
    """Fork; the child audits and exits without clean-up."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        audit(moe, tasks, path, token_budget=128, listener=DamageFile(path.parent))
        code = 0
    finally:
        os._exit(code)


def outcome(pid):
    status = os.waitpid(pid, 0)[1]
    return "killed" if os.WIFSIGNALED(status) else "done" if os.waitstatus_to_exitcode(status) == 0 else "failed"


def figures(path):
    files = [path / "audit.json", *(path / "tables").iterdir()]
    return {file.name: file.read_bytes() for file in files}


def shards(path):
    index = path / "trace/index.jsonl"
    return len(index.read_text().splitlines()) if index.exists() else 0


def kill_after(pid, path, n_shards, rng):
    """Kill the child at a random moment after it has listed `n_shards`; return how it ended."""
    while shards(path) < n_shards and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        time.sleep(0.001)
    time.sleep(rng.uniform(0, 0.05))
    os.kill(pid, signal.SIGKILL)
    return outcome(pid)


def main(folder):
    torch.set_num_threads(1)
    few_draws(setattr)
    model = random_model("olmoe", num_hidden_layers=1)
    moe, tasks = read(model, tiny_tokenizer(), "tiny"), task_set(48, longest=4)
    assert outcome(child(moe, tasks, folder / "unbroken")) == "done"
    uninterrupted, all_shards = figures(folder / "unbroken"), shards(folder / "unbroken")
    rng, kills, counts, same = random.Random(0), 0, set(), []
    for name in ("once", "again"):
        path = folder / name
        for n_shards in range(all_shards + 1):
            kills += kill_after(child(moe, tasks, path), path, n_shards, rng) == "killed"
            counts.add(shards(path))
        assert outcome(child(moe, tasks, path)) == "done"
        same.append(figures(path) == uninterrupted)
    damaged = (folder / "damage.txt").exists()
    print(json.dumps({"kills": kills, "same": same, "shards": sorted(counts), "damaged": damaged}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
