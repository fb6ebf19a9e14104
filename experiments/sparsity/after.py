"""GRPO and votes on the models of the narrow sweep, as PLAN.md says.

    python -m experiments.sparsity.after [--processes 2]

Needs runs/sparsity/narrow. Each job is a process of one thread and a run of its own that resumes; its result is
runs/sparsity/after/results/NAME.json. A failed one keeps its error.
"""

import argparse
import functools
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.shared import pool

NARROW, RUNS = Path("runs/sparsity/narrow"), Path("runs/sparsity/after")
RESULTS = RUNS / "results"
EXPERTS, SEEDS, ROUTERS = (2, 8, 32), range(1, 4), ("trained", "frozen")
DEPTHS, TARGET = range(1, 13), 0.5
RATES, TRIED = (5e-6, 5e-5, 5e-4), 8  # learning rates, tried on this E
STEPS, LAST, TOKENS = 100, 20, 64
Job = dict[str, Any]


def model_of(experts: int, seed: int) -> Path:
    """The folder of a trained model of the sweep."""
    return NARROW / "trials" / f"d64-l2-e{experts}-k2-i128-lr0.003-init0.1-s{seed}"


def accuracy(experts: int, seed: int, operations: int) -> float:
    """Accuracy of a trained model on chains of so many operations, from the sweep."""
    result = json.loads((model_of(experts, seed) / "result.json").read_text())
    return float(result["tasks"][f"chains-{operations}"]["accuracy"])


@functools.cache
def depth() -> int:
    """Number of operations at which the mean accuracy of the models of `jobs` is nearest to `TARGET`."""
    models = list(itertools.product(EXPERTS, SEEDS))
    mean = {n: sum(accuracy(*model, n) for model in models) / len(models) for n in DEPTHS}
    return min(DEPTHS, key=lambda operations: abs(mean[operations] - TARGET))


def vote(name: str, model: Path) -> Job:
    """Self-consistency of one model."""
    return {"name": name, "verb": "vote", "model": str(model), "tasks": f"chains-{depth()}", "options": {}}


def grpo(name: str, model: Path, **options: Any) -> Job:
    """Reinforcement learning from one model."""
    return {"name": name, "verb": "grpo", "model": str(model), "tasks": f"chains-{depth()}", "options": options}


def tried_seed() -> int:
    """Seed whose model of E = `TRIED` has the accuracy nearest to `TARGET`."""
    return min(SEEDS, key=lambda seed: abs(accuracy(TRIED, seed, depth()) - TARGET))


def trials_of_rates() -> list[Job]:
    """GRPO of that model at each learning rate."""
    model = model_of(TRIED, tried_seed()) / "run" / "model"
    return [grpo(f"rate-{rate:g}", model, learning_rate=rate, steps=STEPS, seed=0) for rate in RATES]


def best_rate() -> float:
    """Learning rate of the highest reward over the last steps, on training problems; the smallest if equal."""
    rewards = {rate: json.loads((RESULTS / f"rate-{rate:g}.json").read_text())["reward"] for rate in RATES}
    return max(RATES, key=lambda rate: (sum(rewards[rate][-LAST:]), -rate))


def jobs() -> Iterator[Job]:
    """Every model: a vote before, and GRPO with trained and with frozen routers."""
    for seed in SEEDS:
        for experts in EXPERTS:
            model, name = model_of(experts, seed) / "run" / "model", f"e{experts}-s{seed}"
            yield vote(f"vote-before-{name}", model)
            for routers in ROUTERS:
                options = {"learning_rate": best_rate(), "steps": STEPS, "seed": seed, "routers": routers}
                yield grpo(f"grpo-{routers}-{name}", model, **options)


def votes_after() -> Iterator[Job]:
    """Votes of the models after GRPO, for every GRPO job with a result."""
    for seed in SEEDS:
        for experts in EXPERTS:
            for routers in ROUTERS:
                name = f"{routers}-e{experts}-s{seed}"
                if (RESULTS / f"grpo-{name}.json").exists():
                    yield vote(f"vote-{name}", RUNS / "runs" / f"grpo-{name}" / "model")


def work(job: Job) -> None:
    """Do one job in this process."""
    import torch

    import turnout

    torch.set_num_threads(1)
    out = RUNS / "runs" / job["name"]
    result: Any
    if job["verb"] == "vote":
        result = turnout.vote(job["model"], job["tasks"], out, dtype="float32", max_new_tokens=TOKENS)
        content = result.to_dict()
    else:
        result = turnout.grpo(job["model"], job["tasks"], out, max_new_tokens=TOKENS, **job["options"])
        steps = result.frame().filter(metric="reward").sort("step")["value"].to_list()
        content = result.to_dict() | {"reward": steps}
    pool.write_result(RESULTS, job["name"], job | content)


def start(job: Job) -> None:
    """Run one job in a process of its own unless it has a result."""
    if not pool.is_done(RESULTS, job["name"]):
        pool.run_module("experiments.sparsity.after", job, RESULTS, [job["name"]])


def main() -> None:
    """Run the learning rates first, then every model, then the votes after GRPO."""
    parser = pool.parser(__doc__)
    parser.add_argument("job", nargs="?", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        work(args.job)
        return
    for part in (trials_of_rates, jobs, votes_after):
        pool.run_all(start, part(), args.processes)


if __name__ == "__main__":
    main()
