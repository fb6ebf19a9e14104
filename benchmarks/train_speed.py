"""Training tokens a second: our recipe against transformers' eager, a sweep's processes against one with all threads.

`python benchmarks/train_speed.py [--rounds 5] [--only-sweeps]`. Steps of the two alternate in one process of one
thread; each pair's processor time gives a ratio, so that other work on the machine disturbs little. Short steps are
taken more often: a handful of them says nothing. The same weights, tokens and optimiser; loss curves in float32 must
agree.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from statistics import median, quantiles

import torch
from transformers import PreTrainedModel

from turnout.models.fast.experts import set_fast_experts
from turnout.training.bfloat16 import set_fast_bfloat16
from turnout.training.exercise_tokenizer import exercise_tokenizer
from turnout.training.model import build_model
from turnout.training.recipe import ModelRecipe

EXPERTS = (8, 32, 128)
BATCH, LENGTH = 16, 256
AGREE, CURVE = 2e-3, 10  # nats a token after ten steps: float32 sums in another order


def shape(experts: int) -> ModelRecipe:
    """Hidden 128, four layers, top-4, expert width 64."""
    return ModelRecipe(
        hidden_size=128, layers=4, heads=4, experts=experts, top_k=min(4, experts), expert_width=64, balancing=0.0
    )


SWEPT = {
    "hidden 128, four layers, 32 experts, 16 x 256 tokens": (shape(32), BATCH, LENGTH),
    "hidden 64, two layers, 8 experts, 16 x 128 tokens": (
        ModelRecipe(architecture="mixtral", hidden_size=64, layers=2, heads=4, experts=8, top_k=2, expert_width=128),
        16,
        128,
    ),
}
"""The speed table's middle model, and one of `experiments/sparsity/narrow.yaml`: (recipe, batch, tokens a sequence)."""


def stepper(model: PreTrainedModel, bfloat16: bool) -> Callable[[torch.Tensor], float]:
    """One optimiser step on the ids; its loss."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def step(ids: torch.Tensor) -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def pair(experts: int, bfloat16: bool) -> tuple[Callable[[torch.Tensor], float], Callable[[torch.Tensor], float]]:
    """Ours, and transformers' eager experts with its default attention, from the same weights."""
    tokenizer = exercise_tokenizer()
    ours, plain = (build_model(shape(experts), tokenizer, 0).train() for _ in range(2))
    if bfloat16:
        set_fast_experts(ours)
        set_fast_bfloat16(ours)
    plain.set_experts_implementation("eager")
    return stepper(ours, bfloat16), stepper(plain, bfloat16)


def compare(experts: int, bfloat16: bool, pairs: int) -> tuple[float, float, list[float], float]:
    """Tokens a second of ours and of plain transformers, each pair's ratio, and how far losses are apart at most."""
    generator = torch.Generator().manual_seed(0)
    steps, times = pair(experts, bfloat16), ([], [])
    apart = 0.0
    for at in range(max(pairs, CURVE) + 1):
        ids = torch.randint(512, (BATCH, LENGTH), generator=generator)
        said = []
        for step, taken in zip(steps, times, strict=True):
            start = time.process_time()  # of one thread: other work on the machine counts little
            said.append(step(ids))
            taken.append(time.process_time() - start)
        apart = max(apart, abs(said[0] - said[1])) if at < CURVE else apart
    ours, plain = (BATCH * LENGTH / median(taken[1:]) for taken in times)  # the first compiles kernels
    return ours, plain, [slow / fast for fast, slow in zip(*times, strict=True)][1:], apart


def throughput(name: str, processes: int, threads: int, rounds: int) -> float:
    """Tokens a second of so many processes at once, each of so many threads."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, __file__, "--worker", name, "--rounds", str(rounds)]
    running = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    return sum(float(process.communicate()[0]) for process in running)


def worker(name: str, rounds: int) -> None:
    """Print the tokens a second of our recipe for one of SWEPT, bfloat16."""
    recipe, batch, length = SWEPT[name]
    model = build_model(recipe, exercise_tokenizer(), 0).train()
    set_fast_experts(model)
    set_fast_bfloat16(model)
    step, ids = stepper(model, True), torch.randint(512, (batch, length))
    for _ in range(3):
        step(ids)
    steps, start = 4 * rounds * BATCH * LENGTH // (batch * length), time.perf_counter()
    for _ in range(steps):
        step(ids)
    print(steps * batch * length / (time.perf_counter() - start))


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only-sweeps", action="store_true")
    parser.add_argument("--worker", choices=SWEPT)
    asked = parser.parse_args()
    if asked.worker:
        worker(asked.worker, asked.rounds)
        return
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, {date.today()}")
    if not asked.only_sweeps:
        steps(asked.rounds)
    sweeps(asked.rounds)


def steps(rounds: int) -> None:
    """The first table."""
    torch.set_num_threads(1)
    print(
        "| experts | precision | pairs | ours tok/s | transformers eager tok/s | ratio, quartiles | losses apart by |"
    )
    print("|---|---|---|---|---|---|---|")
    for experts in EXPERTS:
        for bfloat16 in (False, True):
            ours, plain, ratios, apart = compare(experts, bfloat16, rounds * max(1, 64 // experts))
            assert bfloat16 or apart < AGREE, f"{experts} experts: losses differ by {apart}"
            low, middle, high = quantiles(ratios, n=4)
            cells = (experts, "bfloat16" if bfloat16 else "float32", len(ratios), f"{ours:,.0f}", f"{plain:,.0f}")
            print(
                "|",
                *(f"{cell} |" for cell in cells),
                f"{middle:.2f} ({low:.2f}–{high:.2f}) | {apart:.1g} |",
                flush=True,
            )


def sweeps(rounds: int) -> None:
    """The second table."""
    cores = os.cpu_count() or 1
    print(f"\n| model | {cores} processes of one thread, tok/s | one of {cores} threads | ratio, least and most |")
    print("|---|---|---|---|")
    for name in SWEPT:
        pairs = [(throughput(name, cores, 1, rounds), throughput(name, 1, cores, rounds)) for _ in range(rounds)]
        many, one = (median(figures) for figures in zip(*pairs, strict=True))
        ratios = [a / b for a, b in pairs]
        print(
            f"| {name} | {many:,.0f} | {one:,.0f} | {median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f}) |",
            flush=True,
        )


if __name__ == "__main__":
    main()
