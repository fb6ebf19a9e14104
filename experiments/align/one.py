"""One alignment of the experiment, given as JSON; run.py calls it."""

import json
import sys
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
    torch.set_num_threads(1)
    options = job["options"] | {"method": job["method"], "seed": job["seed"]}
    tuning, asked = (FOLDER / f"{name}.jsonl" for name in (job["tuning"], job["on"]))
    found = align(OUT, tuning, asked, RUNS / "runs" / job["name"], **options)
    assert found.accuracy is not None
    content = {**job, "found": found.to_dict(), "answers": found.table("answers").to_dict(as_series=False)}
    content["right"] = found.accuracy["overall"]["after"]
    atomic.write_bytes(RUNS / "results" / f"{job['name']}.json", json.dumps(content, default=str).encode())


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
