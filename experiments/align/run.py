"""Train and measure every alignment that is not there yet: `python experiments/align/run.py [--processes 2]`.

Five at a time are a process of one thread; what one found is runs/align/results/NAME.json. One that fails is kept with
its error.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from questions import prepare

HERE = Path(__file__).parent
RUNS = Path("runs/align")
RESULTS = RUNS / "results"
SEEDS, FEW = range(5), range(3)
RATES = (7e-5, 7e-4, 7e-3)
HOT = RATES[1:]
PRIMARY = ("router-tuning", "roma")
TOGETHER = 5
TRAINED = (
    "router-tuning",
    "roma",
    "random-neighbours",
    "no-success-filter",
    "permuted-targets",
    "domain-mean",
    "l1",
    "l2",
    "entropy",
)
ABLATIONS: dict[str, dict[str, Any]] = {
    "layers-last-1": {"layers": "last-1"},
    "layers-last-3": {"layers": "last-3"},
    "layers-first-1": {"layers": "first-1"},
    "tokens-last-three": {"tokens": "last-three"},
    "tokens-first": {"tokens": "first"},
    "k-1": {"k": 1},
    "k-10": {"k": 10},
    "ball-0.5": {"min_similarity": 0.5},
    "weight-0.1": {"weight": 0.1},
    "weight-10": {"weight": 10.0},
    "sigma-0.2": {"sigma": 0.2},
    "sigma-1": {"sigma": 1.0},
    "quarter": {},
    "embedder-model": {"embedder": "model"},
}

DEV, TEST = {"tuning": "tuning", "on": "dev"}, {"tuning": "tuning", "on": "test"}
Job = dict[str, Any]


def rates() -> list[Job]:
    """Learning rates, on the development questions."""
    return [
        {"name": f"{method}-rate{rate:g}", "method": method, "options": {"learning_rate": rate}, "seed": 0, **DEV}
        for method in TRAINED
        for rate in RATES
    ]


def best_rate(method: str) -> float:
    """The rate with most right development answers, of those that did not fail; the smaller one of equals."""
    files = {rate: RESULTS / f"{method}-rate{rate:g}.json" for rate in RATES}
    right = {rate: json.loads(file.read_text())["right"] for rate, file in files.items() if file.exists()}
    return max(right, key=lambda rate: (right[rate], -rate))


def methods() -> Iterator[Job]:
    """Every method, seed by seed; C3PO, which draws nothing, once; the seed draws the oracle's wrong letters."""
    for seed in SEEDS:
        for method in TRAINED:
            options = {"learning_rate": best_rate(method)}
            yield {"name": f"{method}-{seed}", "method": method, "options": options, "seed": seed, **TEST}
        for method in ("c3po", "oracle") if seed == 0 else ("oracle",):
            yield {"name": f"{method}-{seed}", "method": method, "options": {}, "seed": seed, **TEST}


def ablations() -> Iterator[Job]:
    """RoMA with one thing changed."""
    rate = {"learning_rate": best_rate("roma")}
    for seed in FEW:
        for name, options in ABLATIONS.items():
            on = {"method": "roma", "options": rate | options, "seed": seed, **TEST}
            yield {"name": f"roma-{name}-{seed}", **on, "tuning": "quarter" if name == "quarter" else "tuning"}


def hotter() -> Iterator[Job]:
    """The two methods of the primary contrast at rates that move routing; added after the first results."""
    for seed in SEEDS:
        for rate in HOT:
            for method in PRIMARY:
                options = {"learning_rate": rate}
                yield {
                    "name": f"{method}-at-{rate:g}-{seed}",
                    "method": method,
                    "options": options,
                    "seed": seed,
                    **TEST,
                }


def changes() -> list[Job]:
    """What the two methods of the primary contrast changed in the routing; the base first, since all are held to it."""
    names = [f"{method}-{seed}" for seed in SEEDS for method in PRIMARY]
    return [{"name": f"change-{name}", "of": name} for name in names]


def start(jobs: Sequence[Job]) -> None:
    """Run them in a process of their own, one after another: most of a minute goes into starting one."""
    script, given = ("change.py", jobs[0]["of"]) if "of" in jobs[0] else ("one.py", list(jobs))
    command = [sys.executable, str(HERE / script), json.dumps(given)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    for job in jobs:
        if done.returncode > 0 and not is_done(job):  # killed ones are tried again
            (RESULTS / f"{job['name']}.error").write_text(done.stderr[-4000:])
    print(*(job["name"] for job in jobs), "failed" if done.returncode else "", flush=True)


def is_done(job: Job) -> bool:
    """Whether there is a result, or an error, which is one too."""
    return any((RESULTS / f"{job['name']}.{ending}").exists() for ending in ("json", "error"))


def together(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """What is left to do, a process' worth at a time."""
    left = [job for job in jobs if not is_done(job)]
    size = 1 if any("of" in job for job in left) else TOGETHER
    for at in range(0, len(left), size):
        yield left[at : at + size]


def main() -> None:
    """Everything, in order: learning rates, methods, what they changed, ablations, higher rates."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    prepare()
    for part in (rates, methods, lambda: [{"name": "change-base", "of": "base"}], changes, ablations, hotter):
        with ThreadPoolExecutor(asked.processes) as pool:
            list(pool.map(start, together(list(part()))))


if __name__ == "__main__":
    main()
