"""Alignments of the experiment, given as a JSON list; run.py starts it. A failed one is kept with its error."""

import json
import sys
import traceback
from pathlib import Path
from typing import Any

import torch

from experiments.align.base import OUT
from experiments.align.questions import FOLDER
from experiments.shared.pool import write_error, write_result
from turnout import align

RUNS = Path("runs/align")


def main(job: dict[str, Any]) -> None:
    """Align, and write the result with the answers."""
    options = job["options"] | {"method": job["method"], "seed": job["seed"]}
    tuning, evaluation = (FOLDER / f"{name}.jsonl" for name in (job["tuning"], job["on"]))
    result = align(OUT, tuning, evaluation, RUNS / "runs" / job["name"], **options)
    assert result.accuracy is not None
    content = {**job, "found": result.to_dict(), "answers": result.table("answers").to_dict(as_series=False)}
    content["right"] = result.accuracy["overall"]["after"]
    write_result(RUNS / "results", job["name"], content)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for job in json.loads(sys.argv[1]):
        try:
            main(job)
        except Exception:  # of any kind: it is recorded, and the other jobs run
            write_error(RUNS / "results", job["name"], traceback.format_exc())
        print(job["name"], flush=True)
