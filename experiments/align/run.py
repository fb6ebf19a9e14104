"""Train and measure every alignment of PLAN.md that has no result yet.

    python -m experiments.align.run [--processes 2]

Five at a time are run by a process of one thread; each result is runs/align/results/NAME.json. A failed one keeps its
error.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.align.questions import prepare
from experiments.shared import pool

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
    """Learning rate with the most correct development answers among those that did not fail; the smallest if equal."""
    files = {rate: RESULTS / f"{method}-rate{rate:g}.json" for rate in RATES}
    correct = {rate: json.loads(file.read_text())["right"] for rate, file in files.items() if file.exists()}
    return max(correct, key=lambda rate: (correct[rate], -rate))


def methods() -> Iterator[Job]:
    """Every method, seed by seed; C3PO, which is deterministic, once; the oracle's wrong letters depend on the seed."""
    for seed in SEEDS:
        for method in TRAINED:
            options = {"learning_rate": best_rate(method)}
            yield {"name": f"{method}-{seed}", "method": method, "options": options, "seed": seed, **TEST}
        for method in ("c3po", "oracle") if seed == 0 else ("oracle",):
            yield {"name": f"{method}-{seed}", "method": method, "options": {}, "seed": seed, **TEST}


def ablations() -> Iterator[Job]:
    """RoMA with one setting changed."""
    rate = {"learning_rate": best_rate("roma")}
    for seed in FEW:
        for name, options in ABLATIONS.items():
            job = {"method": "roma", "options": rate | options, "seed": seed, **TEST}
            yield {"name": f"roma-{name}-{seed}", **job, "tuning": "quarter" if name == "quarter" else "tuning"}


def higher_rates() -> Iterator[Job]:
    """The two methods of the primary contrast at higher learning rates; added after the first results."""
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
    """Comparisons of the routing of the primary contrast's methods with the base model's."""
    names = [f"{method}-{seed}" for seed in SEEDS for method in PRIMARY]
    return [{"name": f"change-{name}", "of": name} for name in names]


def start(jobs: Sequence[Job]) -> None:
    """Run them in one process, one after another: starting a process takes most of a minute."""
    changes = "of" in jobs[0]
    module, argument = ("change", jobs[0]["of"]) if changes else ("one", list(jobs))
    pool.run_module(f"experiments.align.{module}", argument, RESULTS, [job["name"] for job in jobs])


def batches(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Jobs without a result, in lists of one process each."""
    left = [job for job in jobs if not pool.is_done(RESULTS, job["name"])]
    size = 1 if any("of" in job for job in left) else TOGETHER
    for at in range(0, len(left), size):
        yield left[at : at + size]


def main() -> None:
    """Run everything in order: learning rates, methods, changes of routing, ablations, higher rates."""
    args = pool.parser(__doc__).parse_args()
    prepare()
    for part in (rates, methods, lambda: [{"name": "change-base", "of": "base"}], changes, ablations, higher_rates):
        pool.run_all(start, batches(list(part())), args.processes)


if __name__ == "__main__":
    main()
