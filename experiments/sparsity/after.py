"""GRPO and votes on the sweep's models, as PLAN.md says: `python experiments/sparsity/after.py [--processes 2]`.

Needs runs/sparsity/narrow. Each job is a process of one thread and a run of its own that resumes; what it found is
runs/sparsity/after/results/NAME.json. One that fails is kept with its error.
"""

import argparse
import functools
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

NARROW, RUNS = Path("runs/sparsity/narrow"), Path("runs/sparsity/after")
RESULTS = RUNS / "results"
EXPERTS, SEEDS, ROUTERS = (2, 8, 32), range(1, 4), ("trained", "frozen")
DEPTHS, WANTED = range(1, 13), 0.5
RATES, LOOK = (5e-6, 5e-5, 5e-4), 8  # learning rates, tried on this E
STEPS, LAST, TOKENS = 100, 20, 64
Job = dict[str, Any]


def model_of(experts: int, seed: int) -> Path:
    """The folder of a trained model of the sweep."""
    return NARROW / "trials" / f"d64-l2-e{experts}-k2-i128-lr0.003-init0.1-s{seed}"


def right(experts: int, seed: int, operations: int) -> float:
    """How many of the chains of so many operations a trained model answers, as the sweep found."""
    found = json.loads((model_of(experts, seed) / "result.json").read_text())
    return float(found["tasks"][f"chains-{operations}"]["accuracy"])


@functools.cache
def depth() -> int:
    """The number of operations at which all models of `jobs` are right nearest to `WANTED` of the time, on average."""
    models = list(itertools.product(EXPERTS, SEEDS))
    mean = {n: sum(right(*model, n) for model in models) / len(models) for n in DEPTHS}
    return min(DEPTHS, key=lambda operations: abs(mean[operations] - WANTED))


def vote(name: str, model: Path) -> Job:
    """Self-consistency of one model."""
    return {"name": name, "verb": "vote", "model": str(model), "tasks": f"chains-{depth()}", "options": {}}


def grpo(name: str, model: Path, **options: Any) -> Job:
    """Reinforcement learning from one model."""
    return {"name": name, "verb": "grpo", "model": str(model), "tasks": f"chains-{depth()}", "options": options}


def look_seed() -> int:
    """The seed of E = `LOOK` that is right nearest to `WANTED` of the time."""
    return min(SEEDS, key=lambda seed: abs(right(LOOK, seed, depth()) - WANTED))


def looks() -> list[Job]:
    """That model, at each learning rate."""
    model = model_of(LOOK, look_seed()) / "run" / "model"
    return [grpo(f"rate-{rate:g}", model, learning_rate=rate, steps=STEPS, seed=0) for rate in RATES]


def best_rate() -> float:
    """The rate of the highest reward over the last steps, on training problems; the smaller of equals."""
    rewards = {rate: json.loads((RESULTS / f"rate-{rate:g}.json").read_text())["reward"] for rate in RATES}
    return max(RATES, key=lambda rate: (sum(rewards[rate][-LAST:]), -rate))


def jobs() -> Iterator[Job]:
    """Every model: a vote before, GRPO with routers that learn and that do not, a vote after each."""
    for seed in SEEDS:
        for experts in EXPERTS:
            model, name = model_of(experts, seed) / "run" / "model", f"e{experts}-s{seed}"
            yield vote(f"vote-before-{name}", model)
            for routers in ROUTERS:
                options = {"learning_rate": best_rate(), "steps": STEPS, "seed": seed, "routers": routers}
                yield grpo(f"grpo-{routers}-{name}", model, **options)


def votes_after() -> Iterator[Job]:
    """The models that GRPO made; one that was killed has none yet."""
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
    from turnout.runs import atomic

    torch.set_num_threads(1)
    out = RUNS / "runs" / job["name"]
    found: Any
    if job["verb"] == "vote":
        found = turnout.vote(job["model"], job["tasks"], out, dtype="float32", most_tokens=TOKENS)
        content = found.to_dict()
    else:
        found = turnout.grpo(job["model"], job["tasks"], out, most_tokens=TOKENS, **job["options"])
        steps = found.frame().filter(metric="reward").sort("step")["value"].to_list()
        content = found.to_dict() | {"reward": steps}
    atomic.write_bytes(RESULTS / f"{job['name']}.json", json.dumps(job | content).encode())


def start(job: Job) -> None:
    """Run one in a process of its own."""
    if (RESULTS / f"{job['name']}.json").exists() or (RESULTS / f"{job['name']}.error").exists():
        return
    command = [sys.executable, __file__, "--job", json.dumps(job)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    if done.returncode > 0:  # killed ones are tried again
        (RESULTS / f"{job['name']}.error").write_text(done.stderr[-4000:])
    print(job["name"], "done" if done.returncode == 0 else f"failed: {done.stderr[-300:]}", flush=True)


def main() -> None:
    """Learning rates first, then every model, then what GRPO made."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--job")
    asked = parser.parse_args()
    if asked.job:
        work(json.loads(asked.job))
        return
    RESULTS.mkdir(parents=True, exist_ok=True)
    for part in (looks, jobs, votes_after):
        with ThreadPoolExecutor(asked.processes) as pool:
            list(pool.map(start, list(part())))


if __name__ == "__main__":
    main()
