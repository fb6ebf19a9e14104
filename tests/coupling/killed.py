"""Train coupled in forked children, kill some, resume them, and print the outcomes as JSON.

Run as a process of its own, so that children fork before any thread runs: python killed.py FOLDER
"""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ["OMP_NUM_THREADS"] = "1"

import polars as pl
import torch
from training.killed import DieAt, same_weights
from training.texts import write_recipe

from turnout import CoupleConfig, train

torch.set_num_threads(1)


def in_child(recipe, out, callbacks=(), **coupled):
    """Train in a fork; return the signal that ended it, or its exit status."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            train(recipe, out, callbacks=callbacks, **coupled)
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(pid, 0)[1]
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)


def logged(run):
    """Metrics of the callback; the Trainer's own mean loss is reset by a resume."""
    metrics = pl.read_parquet(run / "tables" / "metrics.parquet")
    return metrics.filter(pl.col("metric").str.starts_with("coupling/")).rows()


def main(folder):
    recipe = write_recipe(folder)
    erc = {"erc": CoupleConfig(weight=10.0, normalized=True)}
    shrinking = {"match_norms": folder / "whole"}
    whole, killed, shrunk, cut = (folder / name for name in ("whole", "killed", "shrunk", "cut"))
    ended = [
        in_child(recipe, whole, **erc),
        in_child(recipe, killed, [DieAt(6)], **erc),
        in_child(recipe, killed, **erc),
        in_child(recipe, shrunk, **shrinking),
        in_child(recipe, cut, [DieAt(11)], **shrinking),
        in_child(recipe, cut, **shrinking),
    ]
    same = {
        "erc": same_weights(whole, killed),
        "norms": same_weights(shrunk, cut),
        "other": same_weights(whole, shrunk),
    }
    print(json.dumps({"ended": ended, "same": same, "logged": [logged(run) for run in (whole, killed)]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
