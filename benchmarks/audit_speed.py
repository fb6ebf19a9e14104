"""Speed of reading the routers of one model: one prompt at a time, padded batches with router logits, and Turnout.

    python benchmarks/audit_speed.py [--smoke] [--rounds 5] [--threads N] [--out speed.md]

The model is random and OLMoE-like (H 512, 8 layers, 64 experts, top-8, I 256, vocabulary 50,304); the prompts are 64
random ones of 30 to 300 tokens. The three alternate, round after round, so that other work on the machine affects all
of them; a ratio compares two of them within one round, and the median over rounds is printed. Ratios of processor time
stand beside those of wall time.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from machine import machine, spread, table
from random_model import random_olmoe
from transformers import PreTrainedModel

from turnout.auditing.config import AuditConfig
from turnout.models.fast.products import product
from turnout.models.forward.batches import plan_batches
from turnout.models.forward.capture import capture_batches
from turnout.models.wrap.anatomy import MoE, read

TURNOUT_BUDGET = AuditConfig().token_budget
PADDED_BUDGET = 2048  # fastest of 1024, 2048, 4096 for padded batches on the machine in docs/findings/speed.md
WAYS = ("one at a time", "padded batches", "turnout")
GOALS = {torch.bfloat16: {"one at a time": 4.0, "padded batches": 2.0}, torch.float32: {"one at a time": 2.0}}

Prompts = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Result:
    """Rounds of one dtype: seconds of wall and of processor time of each way, and the machine's matrix-product rate."""

    dtype: torch.dtype
    tokens: int
    wall: dict[str, list[float]]
    processor: dict[str, list[float]]
    operations: float
    rate: float

    def per_second(self, way: str) -> float:
        """Tokens per second of wall time, the median over rounds."""
        return self.tokens / statistics.median(self.wall[way])

    def ratios(self, way: str, seconds: dict[str, list[float]]) -> list[float]:
        """Time of `way` over that of Turnout, round by round."""
        return [theirs / ours for theirs, ours in zip(seconds[way], seconds["turnout"], strict=True)]

    def share_of_rate(self) -> float:
        """Turnout's operations per second in its best round, as a share of the measured matrix-product rate."""
        return self.operations / min(self.wall["turnout"]) / self.rate


def options(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a tiny model and one round, to see that it runs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16", "float32"])
    parser.add_argument("--out", type=Path, help="also write the table here, as Markdown")
    return parser.parse_args(words)


def main() -> None:
    """Measure and print."""
    args = options()
    torch.set_num_threads(args.threads)
    rounds = 1 if args.smoke else args.rounds
    text = report([measure(getattr(torch, name), rounds, args.smoke) for name in args.dtypes])
    print(text)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")


def measure(dtype: torch.dtype, rounds: int, smoke: bool) -> Result:
    """Time the three ways, alternating, after a warm-up of each."""
    model, prompts = random_model(smoke).to(dtype).eval(), random_prompts(smoke)
    moe = read(model)
    ways: dict[str, Callable[[Prompts], None]] = {
        "one at a time": lambda piece: one_at_a_time(moe, piece),
        "padded batches": lambda piece: padded_batches(model, piece),
        "turnout": lambda piece: turnout(moe, piece),
    }
    wall: dict[str, list[float]] = {way: [] for way in WAYS}
    processor: dict[str, list[float]] = {way: [] for way in WAYS}
    rate = 0.0
    for way in WAYS:  # first calls allocate and compile
        ways[way](prompts[:4])
    for number in range(rounds):
        rate = max(rate, product_rate(dtype, 256 if smoke else 2048))
        for way in WAYS[number % 3 :] + WAYS[: number % 3]:
            started, busy = time.perf_counter(), time.process_time()
            ways[way](prompts)
            wall[way].append(time.perf_counter() - started)
            processor[way].append(time.process_time() - busy)
    return Result(dtype, sum(map(len, prompts)), wall, processor, operations(model, prompts), rate)


def one_at_a_time(moe: MoE, prompts: Prompts) -> None:
    """The way of the paper's released code: each prompt through the whole model, hooks for the last token's routing."""
    kept: list[list[float]] = []

    def keep(_: object, __: object, output: tuple[torch.Tensor, ...]) -> None:
        kept.append(output[0][-1].float().softmax(-1).tolist())
        kept.append(output[2][-1].tolist())

    handles = [layer.router.register_forward_hook(keep) for layer in moe.layers]
    with torch.no_grad():
        for prompt in prompts:
            moe.model(input_ids=torch.tensor([prompt]))
    for handle in handles:
        handle.remove()


def padded_batches(model: PreTrainedModel, prompts: Prompts) -> None:
    """Batches sorted by length, `output_router_logits=True`, the last token's routing of every layer."""
    for batch in plan_batches([len(p) for p in prompts], PADDED_BUDGET):
        longest = max(len(prompts[i]) for i in batch)
        ids = torch.zeros(len(batch), longest, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, i in enumerate(batch):
            ids[row, : len(prompts[i])] = torch.tensor(prompts[i])
            mask[row, : len(prompts[i])] = 1
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=mask, output_router_logits=True).router_logits
        last = mask.sum(1) - 1
        for layer in logits:
            layer.view(*ids.shape, -1)[torch.arange(len(batch)), last].float().softmax(-1).tolist()


def turnout(moe: MoE, prompts: Prompts) -> None:
    """The way of `turnout audit`: every token's choices, sums over all tokens, and the last token's routing."""
    plan = plan_batches([len(p) for p in prompts], TURNOUT_BUDGET)
    for _ in capture_batches(moe, [[prompts[i] for i in batch] for batch in plan]):
        continue


def random_model(smoke: bool) -> PreTrainedModel:
    """OLMoE-like, or tiny."""
    if smoke:
        return random_olmoe(layers=2, hidden=64, heads=8, experts=64, top_k=8, expert_width=32, vocabulary=512)
    return random_olmoe(layers=8, hidden=512, heads=8, experts=64, top_k=8, expert_width=256, vocabulary=50_304)


def random_prompts(smoke: bool) -> list[list[int]]:
    """Token ids of 64 prompts of 30 to 300 tokens, or of 8."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(30, 301, (8 if smoke else 64,), generator=generator).tolist()
    return [torch.randint(0, 512 if smoke else 50000, (n,), generator=generator).tolist() for n in lengths]


def operations(model: PreTrainedModel, prompts: Prompts) -> float:
    """Multiplications and additions that reading every router needs: projections, experts below the last layer."""
    c = model.config
    attention = 8 * c.hidden_size**2
    experts = c.num_experts_per_tok * 6 * c.hidden_size * c.intermediate_size
    router = 2 * c.hidden_size * c.num_experts
    per_token = c.num_hidden_layers * (attention + router) + (c.num_hidden_layers - 1) * experts
    pairs = sum(len(p) * (len(p) + 1) / 2 for p in prompts)
    return per_token * sum(map(len, prompts)) + c.num_hidden_layers * 4 * c.hidden_size * pairs


def product_rate(dtype: torch.dtype, size: int) -> float:
    """Operations a second of one large square product through the fastest library at hand, the best of several."""
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    best = float("inf")
    for _ in range(4):
        started = time.perf_counter()
        product(a, b)
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def report(results: list[Result]) -> str:
    """Machine, table, and the share of the matrix-product rate."""
    rows = []
    for result in results:
        for way in WAYS:
            cells = [str(result.dtype).removeprefix("torch."), way, f"{result.per_second(way):,.0f}"]
            if way == "turnout":
                cells += ["", "", ""]
            else:
                goal = GOALS.get(result.dtype, {}).get(way)
                cells += [spread(result.ratios(way, result.wall)), spread(result.ratios(way, result.processor))]
                cells.append("" if goal is None else f"{goal:.0f}×")
            rows.append(cells)
    head = ["dtype", "way", "tokens/s", "Turnout is faster by", "by processor time", "goal"]
    shares = [
        f"{str(result.dtype).removeprefix('torch.')}: one large square product runs at {result.rate / 1e9:,.0f} "
        f"GFLOP/s; Turnout's forward reaches {result.share_of_rate():.0%} of that."
        for result in results
    ]
    return "\n".join([machine(torch.get_num_threads()), "", table(head, rows), "", *shares])


if __name__ == "__main__":
    main()
