"""Runs a small run in forked children and kills them: at random moments, then at each of its steps.

A process of its own, so that children start fast and fork before any thread runs. Prints one JSON object.
Usage: python killed.py FOLDER random|steps
"""

import json
import os
import random
import signal
import sys
import time
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import pyarrow as pa
from runs.routed import LAYERS, table

from turnout.runs import RunFolder, verify

INPUTS = {"model": {"id": "m", "digest": "0" * 64}, "tasks": {"name": "t"}}
SHARDS = [table(3, first=3 * i) for i in range(3)]
STEPS = ("fsync", "replace", "write")


def work(path):
    """Complete the run, from the point where an earlier process stopped."""
    with RunFolder.open(path, INPUTS) as run:
        if run.complete:
            return
        writer = run.trace_writer(LAYERS, len(SHARDS))
        done = writer.done()
        for i in sorted(set(range(len(SHARDS))) - done):
            writer.write(i, SHARDS[i], seconds=1.5)
        scores = run.trace().scores(3, "all")
        run.write_table("contribution", pa.table({"expert": range(scores.shape[1]), "gate": scores.mean(0)}))
        run.write_json("audit.json", {"layers": [float(scores.max())]})
        run.finish(timings=dict(zip(("capture_tokens", "capture_seconds"), writer.totals(), strict=True)))


def child(path, before=lambda: None):
    """Fork; the child calls `before`, works and exits without clean-up."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        before()
        work(path)
        code = 0
    finally:
        os._exit(code)


def die_at(step):
    """Kill this process at its `step`-th flush, rename or write: before it, or half-way through a write."""
    count = 0
    real = {name: getattr(os, name) for name in STEPS}

    def dying(name):
        def call(*args, **kwargs):
            nonlocal count
            count += 1
            if count == step:
                if name == "write":
                    real["write"](args[0], args[1][: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return real[name](*args, **kwargs)

        return call

    for name in STEPS:
        setattr(os, name, dying(name))


def ended(pid):
    """'killed', 'done' or 'failed'."""
    status = os.waitpid(pid, 0)[1]
    return "killed" if os.WIFSIGNALED(status) else "done" if os.waitstatus_to_exitcode(status) == 0 else "failed"


def problems(path):
    """Problems that verify reports, without the missing manifest."""
    return [str(p) for p in verify(path) if p.file != "manifest.json"] if (path / "inputs.json").exists() else []


def contents(path):
    """Every file but the lock, as bytes."""
    return {str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*") if f.is_file() and f.name != ".lock"}


def kill_at_random(folder, unbroken, seconds):
    rng, kills, seen, resumed = random.Random(0), 0, [], set()
    for attempt in range(200):
        path = folder / f"random-{attempt}"
        outcome = "killed"
        while outcome == "killed":
            pid = child(path)
            time.sleep(rng.uniform(0, seconds))
            os.kill(pid, signal.SIGKILL)
            outcome = ended(pid)
            kills += outcome == "killed"
            seen += problems(path)
            resumed.add(len(list(path.glob("trace/part-*"))))
        assert outcome == "done", path
        assert contents(path) == unbroken, path
        if kills >= 25:
            break
    return {"kills": kills, "problems": seen, "resumed_from": sorted(resumed)}


def kill_at_each_step(folder, unbroken):
    seen, steps = [], 0
    while True:
        path = folder / f"step-{steps + 1}"
        outcome = ended(child(path, partial(die_at, steps + 1)))
        if outcome == "done":
            return {"kills": steps, "problems": seen}
        steps += 1
        assert outcome == "killed", path
        seen += problems(path)
        assert ended(child(path)) == "done", path
        assert contents(path) == unbroken, path


def main(folder, how):
    start = time.perf_counter()
    assert ended(child(folder / "unbroken")) == "done"
    seconds = time.perf_counter() - start
    unbroken = contents(folder / "unbroken")
    found = kill_at_random(folder, unbroken, seconds) if how == "random" else kill_at_each_step(folder, unbroken)
    print(
        json.dumps({**found, "sound": [str(p) for p in verify(folder / "unbroken")], "torch": "torch" in sys.modules})
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
