"""Train and measure every trial that is not there yet: `python experiments/couple/run.py [--processes 2]`.

Each trial is a process of one thread. A trial that was cut off goes on from its last checkpoint; one that fails is
kept with its error and not tried again until its .error file is removed.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import trials
from trials import ERC, HERE, RUNS, Trial

RESULTS = RUNS / "results"


def result(trial: Trial) -> dict[str, Any] | None:
    """What was measured of a trial; None if it is not done."""
    file = RESULTS / f"{trial.name}.json"
    return json.loads(file.read_text()) if file.exists() else None


def chosen() -> dict[str, Any] | None:
    """The coupling that part 1 settles, by the rule that PLAN.md fixes; None while part 1 is not done."""
    measured = {trial.variant: result(trial) for trial in trials.weights()}
    if None in measured.values():
        return None
    base = measured["vanilla"]
    for normalised in (False, True):
        for weight in trials.WEIGHTS:
            found = measured[f"{ERC}-weight{weight}{'-normalised' * normalised}"]
            if works(found, base):
                return {"weight": float(weight), "normalised": normalised}
    return {"weight": float(max(trials.WEIGHTS)), "normalised": False}


def works(found: dict[str, Any] | None, base: dict[str, Any] | None) -> bool:
    """The manipulation check: L falls to a tenth or less, and more rows are dominated by their own expert."""
    assert found is not None
    assert base is not None
    return found["loss_at_1"] <= base["loss_at_1"] / 10 and found["dominant_rows"] > base["dominant_rows"]


def pending(parts: str) -> Iterator[list[Trial]]:
    """The parts' trials, one list after the other: a list begins when the one before is through."""
    if "1" in parts:
        yield trials.weights()
    settled = chosen()
    if settled is None:
        return
    if "2" in parts:
        yield trials.variants(settled)
        yield trials.norm_matched()
    if "3" in parts:
        yield trials.alphas(settled)
    if "4" in parts:
        yield trials.places(settled)


def start(trial: Trial) -> None:
    """Run one trial in a process of its own."""
    if result(trial) is not None or (RESULTS / f"{trial.name}.error").exists():
        return
    RESULTS.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    command = [sys.executable, str(HERE / "trial.py"), json.dumps(vars(trial))]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    if done.returncode > 0:  # killed ones (negative) are tried again
        (RESULTS / f"{trial.name}.error").write_text(done.stderr[-4000:])
    print(trial.name, "done" if done.returncode == 0 else f"failed: {done.stderr[-300:]}", flush=True)


def main() -> None:
    """Everything that PLAN.md lists, or the `--parts` of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--parts", default="1234")
    asked = parser.parse_args()
    for part in pending(asked.parts):
        with ThreadPoolExecutor(asked.processes) as pool:
            list(pool.map(start, part))


if __name__ == "__main__":
    if not Path("corpora").is_dir():
        sys.exit("corpora: expected the embedded model's corpora, got none; run: python -m turnout.embedded.build")
    main()
