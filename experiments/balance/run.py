"""Train and audit every model of PLAN.md that is not there yet: `python experiments/balance/run.py [--processes 2]`.

Each is a process of one thread; what it found is runs/balance/results/NAME.json. One that fails is kept with its error.
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
RUNS = Path("runs/balance")
RESULTS = RUNS / "results"
WEIGHTS = (0.0, 0.001, 0.01, 0.1)
SEEDS = range(5)
STEPS = (125, 250, 500)


def start(job: tuple[float, int]) -> None:
    """Run one in a process of its own."""
    weight, seed = job
    name = f"{weight:g}-{seed}"
    if (RESULTS / f"{name}.json").exists() or (RESULTS / f"{name}.error").exists():
        return
    command = [sys.executable, str(HERE / "one.py"), json.dumps({"name": name, "weight": weight, "seed": seed})]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    if done.returncode > 0:  # killed ones are tried again
        (RESULTS / f"{name}.error").write_text(done.stderr[-4000:])
    print(name, "done" if done.returncode == 0 else f"failed: {done.stderr[-300:]}", flush=True)


def main() -> None:
    """Seed by seed, so that a cut-off run leaves whole pairs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(asked.processes) as pool:
        list(pool.map(start, [(weight, seed) for seed in SEEDS for weight in WEIGHTS]))


if __name__ == "__main__":
    main()
