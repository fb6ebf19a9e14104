"""What the ERC loss costs a training step, in time and memory: `python benchmarks/erc_cost.py`. One thread.

Two measures, both in processor time: the time from the term's start to its end inside of a step, forward and backward,
over the rest of that step, which other work on the machine disturbs little; and the median step with it over the
median step without, alternating, which holds everything and needs a calm machine. (a) is the embedded model, 8 × 512
tokens; (b) one layer of the paper's 3B model, 4,096 tokens. Beside them stands the FLOP bound: M's products over the
products of the whole step, once as the paper counts (forward and twice that backward: three), once with M's products
computed again in backward, as here (four). Prints Markdown. With `--smoke`, a small instance that only shows that it
runs.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

import turnout
from turnout import ops
from turnout.coupling.timing import Stopwatch
from turnout.models.fast.experts import set_fast_experts

LENGTH = 512


@dataclass(frozen=True)
class Shape:
    """A model and how many sequences a step has."""

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
        """T of a step."""
        return self.sequences * LENGTH

    def step_flops(self) -> float:
        """Forward and backward products of a step without the term."""
        moe = 6 * self.top_k * self.width * self.hidden + 2 * self.experts * self.hidden
        attention = 8 * self.hidden**2 + 2 * LENGTH * self.hidden  # a token sees half of the sequence
        return 3 * self.tokens * (self.layers * (moe + attention) + 2 * self.hidden * self.vocabulary)

    def term_flops(self, products: int) -> float:
        """Of all layers: `products` times 2·N²·I·H."""
        return products * self.layers * 2 * self.experts**2 * self.width * self.hidden


EMBEDDED = Shape("(a) embedded model", 4, 32, 4, 128, 128, 4, 8192, 8)
PAPER = Shape("(b) one layer of the 3B", 1, 64, 8, 1536, 768, 12, 256, 8)
SMOKE = Shape("smoke", 1, 8, 2, 32, 16, 2, 64, 1)


def build(shape: Shape, implementation: str) -> PreTrainedModel:
    """An OLMoE of that shape, ready to train."""
    config = AutoConfig.for_model(
        "olmoe",
        num_hidden_layers=shape.layers,
        num_experts=shape.experts,
        num_experts_per_tok=shape.top_k,
        hidden_size=shape.hidden,
        intermediate_size=shape.width,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        vocab_size=shape.vocabulary,
        max_position_embeddings=LENGTH,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, experts_implementation="grouped_mm").train()
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
    """The term's share of a step without it: inside of the coupled steps, and from the medians of alternating ones."""
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
    """Bytes at the peak of one forward and backward of the term, beyond weights and their gradients."""
    n, h, i = shape.experts, shape.hidden, shape.width
    router = torch.randn(n, h).mul_(0.02).requires_grad_()
    weight = torch.randn(n, (2 * i if fused else i), h).mul_(0.02).requires_grad_()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        ops.erc_loss(norms(router, weight), 1.0).backward()
    held = most = 0
    for event in sorted(recorded.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most - 4 * (router.numel() + weight.numel())


def literal(router_NH: Tensor, gate_NHI: Tensor) -> Tensor:
    """M as the paper writes it, one einsum; holds N²·I numbers."""
    return torch.einsum("nh,mhi->nmi", router_NH, gate_NHI).norm(dim=-1)


def report_time(shape: Shape, implementation: str, pairs: int) -> str:
    """A row of the table."""
    inside, difference = shares(shape, implementation, pairs)
    bounds = [shape.term_flops(products) / shape.step_flops() for products in (3, 4)]
    cells = [shape.name, implementation, f"{100 * inside:.2f} %", f"{100 * difference:.1f} %"]
    cells += [*(f"{100 * bound:.2f} %" for bound in bounds), *(f"{inside / bound:.2f}" for bound in bounds)]
    return "| " + " | ".join(cells) + " |"


def report_memory(shape: Shape) -> list[str]:
    """The rows of the table."""
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
        rows.append(f"| {name} | {own / 2**20:.2f} MiB | {einsum / 2**20:.1f} MiB | 1/{einsum / own:.0f} |")
    return rows


def main() -> None:
    """Both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--pairs", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = f"{asked.pairs} pairs of steps, of (a) five times as many"
    print(f"{date.today()}, {platform.machine()}, torch {torch.__version__}, one thread; {rows}\n")
    print("| step | experts | inside | difference | bound, 3 products | 4 products | inside / 3 | inside / 4 |")
    print("|---|---|---|---|---|---|---|---|")
    for shape in (SMOKE,) if asked.smoke else (EMBEDDED, PAPER):
        for implementation in ("grouped_mm", "turnout"):
            pairs = asked.pairs * (5 if shape is EMBEDDED else 1)
            print(report_time(shape, implementation, pairs), flush=True)
    print("\n| peak beyond weights and their gradients | ours | einsum | |\n|---|---|---|---|")
    print("\n".join(report_memory(SMOKE if asked.smoke else PAPER)))


if __name__ == "__main__":
    main()
