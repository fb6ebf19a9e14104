"""Train and audit every model of PLAN.md that has no result yet.

    python -m experiments.balance.run [--processes 2]

Each is a process of one thread; its result is runs/balance/results/NAME.json. A failed one keeps its error.
"""

from pathlib import Path

from experiments.shared import pool

HERE = Path(__file__).parent
RUNS = Path("runs/balance")
RESULTS = RUNS / "results"
WEIGHTS = (0.0, 0.001, 0.01, 0.1)
SEEDS = range(5)
STEPS = (125, 250, 500)


def start(job: tuple[float, int]) -> None:
    """Run one model unless it has a result."""
    weight, seed = job
    name = f"{weight:g}-{seed}"
    if not pool.is_done(RESULTS, name):
        argument = {"name": name, "weight": weight, "seed": seed}
        pool.run_module("experiments.balance.one", argument, RESULTS, [name])


def main() -> None:
    """Run them seed by seed, so that an interruption leaves complete pairs."""
    args = pool.parser(__doc__).parse_args()
    pool.run_all(start, [(weight, seed) for seed in SEEDS for weight in WEIGHTS], args.processes)


if __name__ == "__main__":
    main()
