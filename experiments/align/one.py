"""Alignments of the experiment, given as a JSON list; run.py calls it. One that fails is kept with its error."""

import json
import sys
import traceback
from pathlib import Path
from typing import Any

import torch
from base import OUT
from questions import FOLDER

from turnout.aligning import align
from turnout.runs import atomic

RUNS = Path("runs/align")


def main(job: dict[str, Any]) -> None:
    """Align, and write which questions were right."""
    options = job["options"] | {"method": job["method"], "seed": job["seed"]}
    tuning, asked = (FOLDER / f"{name}.jsonl" for name in (job["tuning"], job["on"]))
    found = align(OUT, tuning, asked, RUNS / "runs" / job["name"], **options)
    assert found.accuracy is not None
    content = {**job, "found": found.to_dict(), "answers": found.table("answers").to_dict(as_series=False)}
    content["right"] = found.accuracy["overall"]["after"]
    atomic.write_bytes(RUNS / "results" / f"{job['name']}.json", json.dumps(content, default=str).encode())


if __name__ == "__main__":
    torch.set_num_threads(1)
    for asked in json.loads(sys.argv[1]):
        try:
            main(asked)
        except Exception:  # whatever it is, it is kept, and the others go on
            said = traceback.format_exc()[-4000:]
            atomic.write_bytes(RUNS / "results" / f"{asked['name']}.error", said.encode())
        print(asked["name"], flush=True)
