"""How fast an alignment trains: the tail alone, from states on disk, against whole forwards with autograd.

    python benchmarks/align_speed.py [--layers 12] [--trained 5] [--questions 96] [--epochs 3]

Every loop takes the same steps on the same batches, in a process of its own, and its losses must agree. Times are
processor seconds of that process (user and system), of its fastest epoch: other programs on the machine change them
little. What the regulariser costs is measured on steps taken in turns with and without it. Memory is the process's
largest resident size. The floor is what the trained layers' own forwards and backwards take, t(f + b), with f
and b measured on the plain loop that uses the same products, experts and head as the tail does.
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
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from turnout import embedded, ops
from turnout.aligning.answering import Letters
from turnout.aligning.base import read_base
from turnout.aligning.config import AlignConfig
from turnout.aligning.methods import Setting, penalty
from turnout.aligning.neighbourhood import find
from turnout.aligning.questions import prepare
from turnout.aligning.reading import Reader
from turnout.aligning.training import Trainer
from turnout.models.change.adapter import RouterWeights
from turnout.models.fast.experts import fast_experts, real_tokens
from turnout.models.fast.products import fast_linears
from turnout.models.forward.answers import last_token_only
from turnout.models.forward.batches import pad
from turnout.models.forward.tail import Tail
from turnout.models.wrap.anatomy import read
from turnout.progress import silent
from turnout.tasks import worlds
from turnout.tasks.question import TaskSet

LOOPS = ("transformers", "plain", "tail")
ROUNDS = 12  # steps with and without the regulariser, in turns
RATE = 1e-3


def build(args):
    tokenizer = AutoTokenizer.from_pretrained(embedded.model_path())
    config = AutoConfig.for_model(
        "olmoe",
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=128,
        num_hidden_layers=args.layers,
        num_attention_heads=8,
        num_key_value_heads=8,
        num_experts=32,
        num_experts_per_tok=4,
        max_position_embeddings=1024,
    )
    torch.manual_seed(0)
    moe = read(AutoModelForCausalLM.from_config(config).eval(), tokenizer, "benchmark")
    tasks = TaskSet.of("worlds", worlds.questions("train", args.questions))
    config = AlignConfig.of({"layers": f"last-{args.trained}", "epochs": args.epochs, "learning_rate": RATE})
    asked, _ = prepare(moe, tasks, None, 1024)
    return moe, [moe.layers[i] for i in config.chosen_layers(len(moe.layers))], asked, config


def neighbours(asked, base):
    """Neighbours by a made-up embedding: the loops differ in nothing that depends on it."""
    unit = functional.normalize(torch.randn(len(asked.ids), 32, generator=torch.Generator().manual_seed(0)), dim=1)
    everyone = torch.ones(len(asked.ids), dtype=torch.bool)
    return find(unit, asked.texts, everyone, AlignConfig().manifold, "benchmark"), base.routing_SF


def run_tail(args):
    """The trainer itself: losses, processor seconds of its fastest epoch, and those of the base's one pass."""
    moe, layers, asked, config = build(args)
    letters = Letters(asked, among_all=False)
    tail = Tail(moe, layers, letters.wanted)
    with tempfile.TemporaryDirectory() as folder, tail.opened():
        tail.check(asked.ids[:4])
        begun = time.process_time()
        base, states = read_base(tail, letters, Path(folder), 10**10, 4096, silent)
        first = time.process_time() - begun
        hood, _ = neighbours(asked, base)
        reader = Reader(tail, asked, states, RouterWeights.of(layers), 4096)
        domains = [q.domain for q in asked.questions]
        setting = Setting(base.routing_SF, hood, domains, layers, reader.weights, None, 0)
        trainer = Trainer(reader, letters, penalty("roma", setting), config)
        at = [time.process_time()]
        training = trainer.run(Path(folder) / "checkpoint", lambda *_: at.append(time.process_time()))
        steps = len(training.curves) // args.epochs
        regulariser = in_turns(trainer, Trainer(reader, letters, None, AlignConfig.of({"method": "router-tuning"})))
    return {
        "losses": training.curves[:, 0].tolist(),
        "epoch": min(at[(e + 1) * steps] - at[e * steps] for e in range(args.epochs)),
        "once": first,
        "disk_mb": states.bytes / 1e6,
        "regulariser": regulariser,
    }


def in_turns(one, other):
    """Median processor time of a step of `one` over that of `other`, on the same batch."""
    batch, times = next(iter(one.batches(0))), ([], [])
    for _ in range(ROUNDS):
        for trainer, spent in zip((one, other), times, strict=True):
            begun = time.process_time()
            trainer.step(0, batch)
            spent.append(time.process_time() - begun)
    return statistics.median(times[0]) / statistics.median(times[1])


def run_plain(args, same_kernels):
    """Whole forwards; gradients of the last layers' routers by autograd. Forward and backward timed apart."""
    moe, layers, asked, config = build(args)
    letters = Letters(asked, among_all=False)
    tail = Tail(moe, layers, letters.wanted)
    with tempfile.TemporaryDirectory() as folder, tail.opened():  # base routing and batches; not timed
        base, states = read_base(tail, letters, Path(folder), 0, 4096, silent)
        hood, _ = neighbours(asked, base)
        reader = Reader(tail, asked, states, RouterWeights.of(layers), 4096)
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
                loss = plain_loss(moe, layers, asked, letters, base.routing_SF, hood, group, same_kernels)
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


def plain_loss(moe, layers, asked, letters, base_SF, hood, group, same_kernels):
    batch, said = pad([asked.ids[i] for i in group], "right", torch.device("cpu")), {}
    handles = [
        layer.router.register_forward_hook(lambda _, __, out, n=layer.layer: said.update({n: out[0]}))
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
    routing = torch.cat([said[layer.layer][batch.last_B].softmax(-1) for layer in layers], 1)
    question_B = torch.tensor(group)
    near = base_SF[hood.index_Sk[question_B]]
    manifold = ops.manifold_loss(routing, near, hood.weight_Sk[question_B])
    return letters.loss(logits[:, asked.vocabulary], question_B) + 0.8 * manifold


def measure(loop, args):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    torch.set_num_threads(1)
    found = run_tail(args) if loop == "tail" else run_plain(args, same_kernels=loop == "plain")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {**found, "peak_mb": peak / 1e3, "before_mb": before / 1e3}


def report(found, args):
    plain, tail = found["plain"], found["tail"]
    layers, trained = args.layers, args.trained
    f, b = plain["forward"] / layers, plain["backward"] / trained
    floor = trained * (f + b)
    print(f"{layers} layers, {trained} trained, {args.questions} questions, {args.epochs} epochs, one thread")
    print(f"{'loop':<14} {'s/epoch':>8} {'to floor':>9} {'speed-up':>9} {'peak MB':>8}")
    for loop in LOOPS:
        of = found[loop]
        print(
            f"{loop:<14} {of['epoch']:8.2f} {of['epoch'] / floor:9.2f} "
            f"{found['transformers']['epoch'] / of['epoch']:9.2f} {of['peak_mb']:8.0f}"
        )
    print(f"floor t(f+b): {floor:.2f} s, {floor / (layers * f + trained * b):.2f} of the plain loop; goal 1.20 of it")
    print(f"once, before the first epoch: {tail['once']:.2f} s, {tail['disk_mb']:.1f} MB on disk")
    print(f"regulariser: {tail['regulariser']:.3f} of a step without; goal 1.05")
    for loop in ("transformers", "plain"):
        off = max(abs(a - b) / abs(b) for a, b in zip(tail["losses"], found[loop]["losses"], strict=True))
        print(f"largest relative difference of a loss from {loop}: {off:.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("layers", 12), ("trained", 5), ("questions", 96), ("epochs", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--loop", choices=LOOPS)
    args = parser.parse_args()
    if args.loop:
        print(json.dumps(measure(args.loop, args)))
        return
    found = {}
    for loop in LOOPS:
        words = [f"--{name}={getattr(args, name)}" for name in ("layers", "trained", "questions", "epochs")]
        ran = subprocess.run(
            [sys.executable, __file__, f"--loop={loop}", *words], check=True, capture_output=True, text=True
        )
        found[loop] = json.loads(ran.stdout.strip().splitlines()[-1])
    report(found, args)


if __name__ == "__main__":
    main()
