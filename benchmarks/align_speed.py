"""Training speed of an alignment: the last layers alone, from stored states, against whole forwards with autograd.

    python benchmarks/align_speed.py [--smoke] [--layers 12] [--trained 5] [--questions 96] [--epochs 3]

Each loop takes the same steps on the same batches, in a process of its own with one thread; the losses must agree.
Times are processor seconds (user and system) of the fastest epoch, which other programs on the machine change little.
The regularizer's cost is the median over steps that alternate with and without it. Memory is the largest resident size
of the process. The floor t(f + b) is the time of t trained layers, with f and b, a layer's forward and backward,
measured on the plain loop that uses the same products, experts and head as the tail.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import torch
from machine import machine, table
from random_model import embedded_tokenizer, random_olmoe
from torch.nn import functional

from turnout import ops
from turnout.aligning.answers import Letters
from turnout.aligning.config import AlignConfig
from turnout.aligning.methods import PenaltyInputs, penalty_of
from turnout.aligning.neighbors import find_neighbors
from turnout.aligning.questions import prepare
from turnout.aligning.reading import Reader, read_base
from turnout.aligning.training import Trainer
from turnout.listener import Listener
from turnout.models.change.adapter import RouterWeights
from turnout.models.fast.experts import fast_experts, real_tokens
from turnout.models.fast.products import fast_linears
from turnout.models.forward.answers import last_token_only
from turnout.models.forward.batches import pad
from turnout.models.forward.tail import Tail
from turnout.models.wrap.anatomy import read
from turnout.tasks import worlds
from turnout.tasks.question import TaskSet

LOOPS = ("transformers", "plain", "tail")
SIZES = {"layers": 12, "trained": 5, "questions": 96, "epochs": 3, "rounds": 12}
SMOKE = {"layers": 2, "trained": 1, "questions": 8, "epochs": 1, "rounds": 2}
RATE = 1e-3


class StepTimes(Listener):
    """Processor time at the start and after every step."""

    def __init__(self):
        self.times = [time.process_time()]

    def progress(self, *_):
        """Append the time."""
        self.times.append(time.process_time())


def build(args):
    """The model, its trained layers, the prepared questions and the alignment's configuration."""
    tokenizer = embedded_tokenizer()
    sizes = {"hidden": 256, "heads": 8, "experts": 32, "top_k": 4, "expert_width": 128}
    moe = read(random_olmoe(layers=args.layers, vocabulary=len(tokenizer), **sizes), tokenizer, "benchmark")
    tasks = TaskSet.of("worlds", worlds.questions("train", args.questions))
    config = AlignConfig.of({"layers": f"last-{args.trained}", "epochs": args.epochs, "learning_rate": RATE})
    questions, _ = prepare(moe, tasks, None, 1024)
    return moe, [moe.layers[i] for i in config.chosen_layers(len(moe.layers))], questions, config


def neighbors_of(questions):
    """Neighbors by a random embedding; no difference between the loops depends on it."""
    n = len(questions.ids)
    unit = functional.normalize(torch.randn(n, 32, generator=torch.Generator().manual_seed(0)), dim=1)
    everyone = torch.ones(n, dtype=torch.bool)
    return find_neighbors(unit, questions.texts, everyone, AlignConfig().manifold, "benchmark")


def run_tail(args):
    """The trainer itself: losses, processor seconds of its fastest epoch, and those of the base model's one pass."""
    moe, layers, questions, config = build(args)
    letters = Letters(questions, among_all=False)
    tail = Tail(moe, layers, letters.token_ids)
    with tempfile.TemporaryDirectory() as folder, tail.opened():
        tail.check(questions.ids[:4])
        begun = time.process_time()
        base, states = read_base(tail, letters, Path(folder), 10**10, 4096, Listener())
        first = time.process_time() - begun
        reader = Reader(tail, questions, states, RouterWeights.of(layers), 4096)
        domains = [q.domain for q in questions.questions]
        inputs = PenaltyInputs(base.routing_SF, neighbors_of(questions), domains, layers, reader.weights, None, 0)
        trainer = Trainer(reader, letters, penalty_of("roma", inputs), config)
        clock = StepTimes()
        training = trainer.run(Path(folder) / "checkpoint", clock)
        steps = len(training.curves) // args.epochs
        without = Trainer(reader, letters, None, AlignConfig.of({"method": "router-tuning"}))
        regularizer = step_ratio(trainer, without, args.rounds)
    return {
        "losses": training.curves[:, 0].tolist(),
        "epoch": min(clock.times[(e + 1) * steps] - clock.times[e * steps] for e in range(args.epochs)),
        "once": first,
        "disk_mb": states.bytes / 1e6,
        "regularizer": regularizer,
    }


def step_ratio(one, other, rounds):
    """Median processor time of a step of `one` over that of `other`, on the same batch, alternating."""
    batch, times = next(iter(one.batches(0))), ([], [])
    for _ in range(rounds):
        for trainer, spent in zip((one, other), times, strict=True):
            begun = time.process_time()
            trainer.step(0, batch)
            spent.append(time.process_time() - begun)
    return statistics.median(times[0]) / statistics.median(times[1])


def run_plain(args, same_kernels):
    """Whole forwards; gradients of the last layers' routers by autograd. Forward and backward timed apart."""
    moe, layers, questions, config = build(args)
    letters = Letters(questions, among_all=False)
    tail = Tail(moe, layers, letters.token_ids)
    with tempfile.TemporaryDirectory() as folder, tail.opened():  # base routing and batches; not timed
        base, states = read_base(tail, letters, Path(folder), 0, 4096, Listener())
        neighbors = neighbors_of(questions)
        reader = Reader(tail, questions, states, RouterWeights.of(layers), 4096)
        trainer = Trainer(reader, letters, None, config)
        batches = [reader.groups(batch) for batch in trainer.batches(0)]
    trained = [layer.router.weight for layer in layers]
    moe.model.requires_grad_(False)
    for rows in trained:
        rows.requires_grad_(True)
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.01)
    losses, steps = [], []
    with ExitStack() as stack:
        if same_kernels:
            stack.enter_context(fast_experts(moe.model))
            stack.enter_context(fast_linears(moe.model))
        for batch in batches:
            begun, forward, backward = time.process_time(), 0.0, 0.0
            optimizer.zero_grad(set_to_none=True)
            total, size = 0.0, sum(map(len, batch))
            for group in batch:
                at = time.process_time()
                loss = plain_loss(moe, layers, questions, letters, base.routing_SF, neighbors, group, same_kernels)
                middle = time.process_time()
                (loss * (len(group) / size)).backward()
                forward, backward = forward + middle - at, backward + time.process_time() - middle
                total += loss.item() * len(group) / size
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            losses.append(total)
            steps.append((time.process_time() - begun, forward, backward))
    n = len(steps) // args.epochs
    epochs = [[sum(column) for column in zip(*steps[e * n : (e + 1) * n], strict=True)] for e in range(args.epochs)]
    return {"losses": losses, **dict(zip(("epoch", "forward", "backward"), min(epochs), strict=True))}


def plain_loss(moe, layers, questions, letters, base_SF, neighbors, group, same_kernels):
    """Cross-entropy of the answer letters plus the weighted manifold loss of one group of questions."""
    batch, router_logits = pad([questions.ids[i] for i in group], "right", torch.device("cpu")), {}
    handles = [
        layer.router.register_forward_hook(lambda _, __, out, n=layer.layer: router_logits.update({n: out[0]}))
        for layer in layers
    ]
    with ExitStack() as stack:
        if same_kernels:
            stack.enter_context(real_tokens(batch.mask.reshape(-1)))
            stack.enter_context(last_token_only(moe.model.lm_head, batch.last_B % batch.ids.shape[1]))
        logits = moe.model(
            batch.ids, attention_mask=None if same_kernels else batch.mask.long(), use_cache=False
        ).logits
    for handle in handles:
        handle.remove()
    last = torch.zeros(len(group), dtype=torch.int64) if same_kernels else batch.last_B % batch.ids.shape[1]
    logits = logits[torch.arange(len(group)), last]
    routing = torch.cat([router_logits[layer.layer][batch.last_B].softmax(-1) for layer in layers], 1)
    question_B = torch.tensor(group)
    near = base_SF[neighbors.index_Sk[question_B]]
    manifold = ops.manifold_loss(routing, near, neighbors.weight_Sk[question_B])
    return letters.losses(logits[:, questions.vocabulary], question_B).mean() + 0.8 * manifold


def measure(loop, args):
    """Losses, times and memory of one loop, in this process."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    torch.set_num_threads(1)
    result = run_tail(args) if loop == "tail" else run_plain(args, same_kernels=loop == "plain")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {**result, "peak_mb": peak / 1e3, "before_mb": before / 1e3}


def report(results, args):
    """Print the table and what stands below it."""
    plain, tail = results["plain"], results["tail"]
    layers, trained = args.layers, args.trained
    f, b = plain["forward"] / layers, plain["backward"] / trained
    floor = trained * (f + b)
    print(
        f"{machine(threads=1)}; {layers} layers, {trained} trained, {args.questions} questions, {args.epochs} epochs\n"
    )
    slowest = results["transformers"]["epoch"]
    rows = [
        [
            loop,
            f"{result['epoch']:.2f}",
            f"{slowest / result['epoch']:.2f}×",
            f"{result['epoch'] / floor:.2f}×",
            f"{result['peak_mb']:.0f}",
        ]
        for loop, result in results.items()
    ]
    print(table(["loop", "s/epoch", "faster than transformers by", "of the floor", "peak MB"], rows))
    print(
        f"\nfloor t(f + b): {floor:.2f} s, {floor / (layers * f + trained * b):.2f} of the plain loop; goal 1.20 of it"
    )
    print(f"once, before the first epoch: {tail['once']:.2f} s, {tail['disk_mb']:.1f} MB on disk")
    print(f"a step with the regularizer: {tail['regularizer']:.3f} of one without; goal 1.05")
    for loop in ("transformers", "plain"):
        pairs = zip(tail["losses"], results[loop]["losses"], strict=True)
        print(f"largest relative difference of a loss from {loop}: {max(abs(a - b) / abs(b) for a, b in pairs):.1e}")


def options(words=None):
    """The parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to see that it runs")
    for name, default in SIZES.items():
        parser.add_argument(f"--{name}", type=int, help=f"default {default}")
    parser.add_argument("--loop", choices=LOOPS, help=argparse.SUPPRESS)
    args = parser.parse_args(words)
    for name, default in (SMOKE if args.smoke else SIZES).items():
        setattr(args, name, default if getattr(args, name) is None else getattr(args, name))
    return args


def main():
    """Measure each loop in a process of its own, and report."""
    args = options()
    if args.loop:
        print(json.dumps(measure(args.loop, args)))
        return
    results = {}
    for loop in LOOPS:
        words = [f"--{name}={getattr(args, name)}" for name in SIZES]
        ran = subprocess.run(
            [sys.executable, __file__, f"--loop={loop}", *words], check=True, stdout=subprocess.PIPE, text=True
        )
        results[loop] = json.loads(ran.stdout.strip().splitlines()[-1])
    report(results, args)


if __name__ == "__main__":
    main()
