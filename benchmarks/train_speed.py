"""Training tokens per second: Turnout against transformers' eager experts, and a sweep's processes against threads.

    python benchmarks/train_speed.py [--smoke] [--rounds 5] [--only-sweeps]

First table: steps of the two alternate in one process of one thread, from the same weights, tokens and optimizer; each
pair's processor time gives a ratio, which other work on the machine changes little. Short steps are taken more often.
Loss curves in float32 must agree. Second table: as many processes of one thread as there are cores, as a sweep starts
them, against one process with all threads.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from statistics import median, quantiles

import torch
from machine import machine, spread, table
from transformers import PreTrainedModel

from turnout.models.fast.experts import set_fast_experts
from turnout.training.bfloat16 import set_fast_bfloat16
from turnout.training.model import build_model
from turnout.training.recipe import ModelRecipe
from turnout.training.tokens import exercise_tokenizer

EXPERTS = (8, 32, 128)
BATCH, LENGTH = 16, 256
TOLERANCE, CURVE = 2e-3, 10  # nats per token over ten steps: float32 sums in another order


def shape(experts: int) -> ModelRecipe:
    """Hidden 128, four layers, top-4, expert width 64."""
    return ModelRecipe(
        hidden_size=128, layers=4, heads=4, experts=experts, top_k=min(4, experts), expert_width=64, aux_loss=0.0
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
    """A function that takes one optimizer step on ids [B, T] and returns its loss."""
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
    """Steps of Turnout's training and of transformers' eager experts with default attention, from the same weights."""
    tokenizer = exercise_tokenizer()
    ours, plain = (build_model(shape(experts), tokenizer, 0).train() for _ in range(2))
    if bfloat16:
        set_fast_experts(ours)
        set_fast_bfloat16(ours)
    plain.set_experts_implementation("eager")
    return stepper(ours, bfloat16), stepper(plain, bfloat16)


def compare(experts: int, bfloat16: bool, pairs: int, batch: int) -> tuple[float, float, list[float], float]:
    """Tokens per second of Turnout and of transformers, each pair's ratio, and the largest difference of losses."""
    generator = torch.Generator().manual_seed(0)
    steps, times = pair(experts, bfloat16), ([], [])
    apart = 0.0
    for at in range(max(pairs, CURVE) + 1):
        ids = torch.randint(512, (batch, LENGTH), generator=generator)
        losses = []
        for step, taken in zip(steps, times, strict=True):
            start = time.process_time()
            losses.append(step(ids))
            taken.append(time.process_time() - start)
        apart = max(apart, abs(losses[0] - losses[1])) if at < CURVE else apart
    ours, plain = (batch * LENGTH / median(taken[1:]) for taken in times)  # the first compiles kernels
    return ours, plain, [slow / fast for fast, slow in zip(*times, strict=True)][1:], apart


def throughput(name: str, processes: int, threads: int, rounds: int) -> float:
    """Tokens per second of `processes` processes at once, each of `threads` threads."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, __file__, "--worker", name, "--rounds", str(rounds)]
    running = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    return sum(float(process.communicate()[0]) for process in running)


def worker(name: str, rounds: int) -> None:
    """Print the tokens per second of Turnout's training of one of SWEPT, in bfloat16."""
    recipe, batch, length = SWEPT[name]
    model = build_model(recipe, exercise_tokenizer(), 0).train()
    set_fast_experts(model)
    set_fast_bfloat16(model)
    step, ids = stepper(model, True), torch.randint(512, (batch, length))
    for _ in range(3):
        step(ids)
    steps, start = max(1, 4 * rounds * BATCH * LENGTH // (batch * length)), time.perf_counter()
    for _ in range(steps):
        step(ids)
    print(steps * batch * length / (time.perf_counter() - start))


def options(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="one model, one round, to see that it runs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only-sweeps", action="store_true", help="the second table alone")
    parser.add_argument("--worker", choices=SWEPT, help=argparse.SUPPRESS)
    return parser.parse_args(words)


def main() -> None:
    """Print both tables."""
    args = options()
    if args.worker:
        worker(args.worker, args.rounds)
        return
    if not args.only_sweeps:
        torch.set_num_threads(1)
        rows = [
            speed_row(experts, bfloat16, *((2, 1) if args.smoke else (args.rounds * max(1, 64 // experts), BATCH)))
            for experts in (EXPERTS[:1] if args.smoke else EXPERTS)
            for bfloat16 in (False, True)
        ]
        head = ["experts", "precision", "pairs", "Turnout tok/s", "transformers eager tok/s", "ratio, quartiles"]
        print(machine(threads=1) + "\n\n" + table([*head, "losses apart by"], rows) + "\n", flush=True)
    cores = os.cpu_count() or 1
    names = list(SWEPT)[-1:] if args.smoke else list(SWEPT)
    head = ["model", f"{cores} processes of one thread, tok/s", f"one of {cores} threads", "ratio, least and most"]
    rows = [sweep_row(name, cores, 1 if args.smoke else args.rounds) for name in names]
    print(machine(threads=cores) + "\n\n" + table(head, rows))


def speed_row(experts: int, bfloat16: bool, pairs: int, batch: int) -> list[str]:
    """Cells of one model and precision."""
    ours, plain, ratios, apart = compare(experts, bfloat16, pairs, batch)
    assert bfloat16 or apart < TOLERANCE, f"{experts} experts: losses differ by {apart}"
    low, middle, high = quantiles(ratios, n=4)
    cells = [str(experts), "bfloat16" if bfloat16 else "float32", str(len(ratios)), f"{ours:,.0f}", f"{plain:,.0f}"]
    return [*cells, f"{middle:.2f} ({low:.2f}–{high:.2f})", f"{apart:.1g}"]


def sweep_row(name: str, cores: int, rounds: int) -> list[str]:
    """Cells of one model of a sweep."""
    pairs = [(throughput(name, cores, 1, rounds), throughput(name, 1, cores, rounds)) for _ in range(rounds)]
    many, one = (median(figures) for figures in zip(*pairs, strict=True))
    return [name, f"{many:,.0f}", f"{one:,.0f}", spread([a / b for a, b in pairs])]


if __name__ == "__main__":
    main()
