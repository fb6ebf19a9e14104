"""Audits in forked children that are killed at random moments, then resumed. Prints one JSON object.

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

from turnout.auditing import audit
from turnout.models.anatomy import read

KILLS = 4


def child(moe, tasks, path):
    """Fork; the child audits and leaves without clean-up."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        audit(moe, tasks, path, token_budget=128, note=lambda line: (path.parent / "said").write_text(line))
        code = 0
    finally:
        os._exit(code)


def ended(pid):
    status = os.waitpid(pid, 0)[1]
    return "killed" if os.WIFSIGNALED(status) else "done" if os.waitstatus_to_exitcode(status) == 0 else "failed"


def figures(path):
    files = [path / "audit.json", *(path / "tables").iterdir()]
    return {file.name: file.read_bytes() for file in files}


def main(folder):
    torch.set_num_threads(1)
    few_draws(setattr)
    moe, tasks = read(random_model("olmoe", num_hidden_layers=1), tiny_tokenizer(), "tiny"), task_set(48, longest=4)
    started = time.perf_counter()
    assert ended(child(moe, tasks, folder / "unbroken")) == "done"
    seconds, unbroken = time.perf_counter() - started, figures(folder / "unbroken")
    rng, kills, left, same = random.Random(0), 0, set(), []
    for attempt in range(KILLS * 4):
        path, outcome = folder / f"run-{attempt}", "killed"
        while outcome == "killed":
            pid = child(moe, tasks, path)
            time.sleep(rng.uniform(0.2, 1) * seconds)
            os.kill(pid, signal.SIGKILL)
            outcome = ended(pid)
            kills += outcome == "killed"
            left.add(len(list(path.glob("trace/part-*"))))
        assert outcome == "done", path
        same.append(figures(path) == unbroken)
        if kills >= KILLS and len(left) > 2:
            break
    print(json.dumps({"kills": kills, "same": same, "left": sorted(left), "said": (folder / "said").exists()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
