"""Cost of the ERC loss in a training step, in time and memory, on one thread.

    python benchmarks/erc_cost.py [--smoke] [--pairs 5]

Two ratios of processor time. Inside: the term's forward and backward over the rest of the same step; other work on the
machine changes it little. Difference: the median step with the term over the median step without, alternating, minus
one; it includes everything and needs an idle machine. (a) is the embedded model, 8 × 512 tokens; (b) one layer of the
paper's 3B model, 4,096 tokens. The FLOP bounds are M's products over the products of the whole step: three times as the
paper counts (forward, and twice that backward), four times with M's products recomputed in backward, as here.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from machine import machine, table
from random_model import random_olmoe
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from transformers import PreTrainedModel

import turnout
from turnout import ops
from turnout.coupling.timing import Stopwatch
from turnout.models.fast.experts import set_fast_experts

LENGTH = 512


@dataclass(frozen=True)
class Shape:
    """Sizes of a model and of a step."""

    name: str
    layers: int
    experts: int
    top_k: int
    hidden: int
    width: int
    heads: int
    vocabulary: int
    sequences: int

    @property
    def tokens(self) -> int:
        """Tokens of a step."""
        return self.sequences * LENGTH

    def step_flops(self) -> float:
        """Forward and backward products of a step without the term."""
        moe = 6 * self.top_k * self.width * self.hidden + 2 * self.experts * self.hidden
        attention = 8 * self.hidden**2 + 2 * LENGTH * self.hidden  # a token sees half of the sequence
        return 3 * self.tokens * (self.layers * (moe + attention) + 2 * self.hidden * self.vocabulary)

    def term_flops(self, products: int) -> float:
        """Products of the term in all layers: `products` times 2·N²·I·H each."""
        return products * self.layers * 2 * self.experts**2 * self.width * self.hidden


EMBEDDED = Shape("(a) embedded model", 4, 32, 4, 128, 128, 4, 8192, 8)
PAPER = Shape("(b) one layer of the 3B", 1, 64, 8, 1536, 768, 12, 256, 8)
SMOKE = Shape("smoke", 1, 8, 2, 32, 16, 2, 64, 1)


def build(shape: Shape, implementation: str) -> PreTrainedModel:
    """An OLMoE of that shape, ready to train."""
    model = random_olmoe(
        layers=shape.layers,
        hidden=shape.hidden,
        heads=shape.heads,
        experts=shape.experts,
        top_k=shape.top_k,
        expert_width=shape.width,
        vocabulary=shape.vocabulary,
        context=LENGTH,
        experts_implementation="grouped_mm",
    ).train()
    if implementation == "turnout":
        set_fast_experts(model)
    return model


def step_seconds(model: PreTrainedModel, ids: Tensor) -> float:
    """Processor time of one forward and backward."""
    started = time.process_time()
    model(input_ids=ids, labels=ids).loss.backward()
    taken = time.process_time() - started
    model.zero_grad()
    return taken


def shares(shape: Shape, implementation: str, pairs: int) -> tuple[float, float]:
    """Time of the term over that of a step without it: within coupled steps, and from medians of alternating steps."""
    model = build(shape, implementation)
    ids = torch.randint(3, shape.vocabulary, (shape.sequences, LENGTH))
    step_seconds(model, ids)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    inside = 0.0
    for i in range(pairs):
        for coupled in (i % 2 == 0, i % 2 == 1):
            if not coupled:
                seconds[False].append(step_seconds(model, ids))
                continue
            coupling = turnout.couple(model)
            coupling.stopwatch = Stopwatch(time.process_time)
            seconds[True].append(step_seconds(model, ids))
            inside += coupling.stopwatch.take()
            turnout.uncouple(model)
    whole = sum(seconds[True])
    return inside / (whole - inside), statistics.median(seconds[True]) / statistics.median(seconds[False]) - 1


def peak(shape: Shape, norms: Callable[[Tensor, Tensor], Tensor], fused: bool) -> float:
    """Peak bytes of one forward and backward of the term, beyond weights and their gradients."""
    n, h, i = shape.experts, shape.hidden, shape.width
    router = torch.randn(n, h).mul_(0.02).requires_grad_()
    weight = torch.randn(n, (2 * i if fused else i), h).mul_(0.02).requires_grad_()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        ops.erc_loss(norms(router, weight), 1.0).backward()
    allocated = most = 0
    for event in sorted(recorded.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            allocated += event.nbytes()
            most = max(most, allocated)
    return most - 4 * (router.numel() + weight.numel())


def literal(router_NH: Tensor, gate_NHI: Tensor) -> Tensor:
    """M as the paper writes it, in one einsum that keeps N²·I numbers."""
    return torch.einsum("nh,mhi->nmi", router_NH, gate_NHI).norm(dim=-1)


def time_row(shape: Shape, implementation: str, pairs: int) -> list[str]:
    """Cells of one shape and experts implementation."""
    inside, difference = shares(shape, implementation, pairs)
    bounds = [shape.term_flops(products) / shape.step_flops() for products in (3, 4)]
    cells = [shape.name, implementation, f"{100 * inside:.2f} %", f"{100 * difference:.1f} %"]
    return [*cells, *(f"{100 * bound:.2f} %" for bound in bounds), *(f"{inside / bound:.2f}" for bound in bounds)]


def memory_rows(shape: Shape) -> list[list[str]]:
    """Cells of each layout of the gates."""
    i = shape.width
    ways: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor, Tensor], Tensor], bool]] = {
        "gates alone": (lambda r, w: ops.activation_norms(r, w.mT), lambda r, w: literal(r, w.mT), False),
        "inside gate_up_proj": (
            lambda r, w: ops.fused_activation_norms(r, w, lambda x: x[:, :i].mT, rest_in=lambda x: x[:, i:]),
            lambda r, w: literal(r, w[:, :i].mT),
            True,
        ),
    }
    rows = []
    for name, (ours, theirs, fused) in ways.items():
        own, einsum = peak(shape, ours, fused), peak(shape, theirs, fused)
        rows.append([name, f"{own / 2**20:.2f} MiB", f"{einsum / 2**20:.1f} MiB", f"1/{einsum / own:.0f}"])
    return rows


def options(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a tiny model and two pairs of steps, to see that it runs")
    parser.add_argument("--pairs", type=int, default=5, help="pairs of steps; five times as many of (a)")
    return parser.parse_args(words)


def main() -> None:
    """Print both tables."""
    args = options()
    torch.set_num_threads(1)
    pairs = 2 if args.smoke else args.pairs
    print(f"{machine(threads=1)}; {pairs} pairs of steps, of (a) five times as many\n")
    rows = [
        time_row(shape, implementation, pairs * (5 if shape is EMBEDDED else 1))
        for shape in ((SMOKE,) if args.smoke else (EMBEDDED, PAPER))
        for implementation in ("grouped_mm", "turnout")
    ]
    bounds = ["bound, 3 products", "4 products", "inside / 3", "inside / 4"]
    print(table(["step", "experts", "inside", "difference", *bounds], rows))
    memory = memory_rows(SMOKE if args.smoke else PAPER)
    print("\n" + table(["peak beyond weights and their gradients", "ours", "einsum", "ratio"], memory))


if __name__ == "__main__":
    main()
