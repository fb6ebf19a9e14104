"""Train a coupled model in two processes (torchrun, gloo) under DDP and FSDP2; the first prints the results as JSON.

torchrun --nproc_per_node 2 distributed.py; without torchrun, one process trains on all rows.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ["OMP_NUM_THREADS"] = "1"

import torch
import torch.distributed as dist
from tiny import random_model
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from transformers import Trainer, TrainingArguments

import turnout
from turnout.coupling import coupling_of
from turnout.errors import ModelError
from turnout.models.wrap.anatomy import read

STEPS, MICRO = 2, 2
IDS = torch.randint(256, (STEPS, MICRO, 4, 10), generator=torch.Generator().manual_seed(0))
NAMES = ("model.layers.0.mlp.gate.weight", "model.layers.1.mlp.experts.gate_up_proj", "lm_head.weight")


def wrapped(kind, model, coupled_first):
    """The model wrapped for `kind`, coupled before or after it is sharded; and the model itself."""
    if coupled_first:
        turnout.couple(model, weight=5, normalized=True)
    inner, moe = model, read(model)
    if kind == "ddp":
        model = DistributedDataParallel(model)
    elif kind.startswith("fsdp"):
        mesh = init_device_mesh("cpu", (dist.get_world_size(),))
        for layer in inner.model.layers:
            if kind == "fsdp experts":  # own units, gathered only while they run
                fully_shard(layer.mlp.experts, mesh=mesh)
                fully_shard(layer.mlp.gate, mesh=mesh)
            fully_shard(layer, mesh=mesh)
        fully_shard(inner, mesh=mesh)
    if not coupled_first:
        turnout.couple(moe, weight=5, normalized=True)
    return model, inner


def trained(kind, checkpointing=False, coupled_first=True):
    """Losses, and some weights after two optimizer steps of two micro-batches each."""
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    model, inner = wrapped(kind, random_model("olmoe", num_hidden_layers=2).train(), coupled_first)
    if checkpointing:
        inner.activation_checkpointing_enable({"use_reentrant": False})
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=0.3), []
    for step in IDS:
        for micro in step:
            rows = micro.chunk(world)[rank]
            loss = model(input_ids=rows, labels=rows).loss / MICRO
            loss.backward()
            losses.append(mean(loss.detach()))
        optimizer.step()
        optimizer.zero_grad()
    assert coupling_of(inner).step == STEPS
    parameters = dict(inner.named_parameters())
    return {"losses": losses, "weights": {name: whole(parameters[name]) for name in NAMES}}


def by_trainer():
    """Weights after transformers' Trainer, which divides by the labels of all processes; batches differ in labels."""
    world = dist.get_world_size() if dist.is_initialized() else 1
    rows = [{"input_ids": ids, "labels": ids.clone()} for ids in IDS.flatten(0, 2)[:8]]
    for i, row in enumerate(rows):
        row["labels"][: i % 8] = -100
    model = random_model("olmoe", num_hidden_layers=2)
    turnout.couple(model, weight=5, normalized=True)
    with tempfile.TemporaryDirectory() as folder:
        given = TrainingArguments(
            output_dir=folder,
            max_steps=2,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=2 // world,
            learning_rate=0.05,
            optim="sgd",
            lr_scheduler_type="constant",
            max_grad_norm=0,
            train_sampling_strategy="sequential",
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            ddp_backend="gloo" if world > 1 else None,
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        Trainer(model, given, train_dataset=rows, callbacks=[turnout.CouplingCallback()]).train()
    parameters = dict(model.named_parameters())
    return {"losses": [], "weights": {name: whole(parameters[name]) for name in NAMES}}


def refusal():
    """The error for a model that is sharded before it is coupled."""
    model = random_model("olmoe", num_hidden_layers=1)
    fully_shard(model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    try:
        turnout.couple(model)
    except ModelError as error:
        return str(error)
    return None


def mean(loss):
    if dist.is_initialized():
        dist.all_reduce(loss)
        loss = loss / dist.get_world_size()
    return float(loss)


def whole(parameter):
    """The first numbers of a parameter, and its norm."""
    full = parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
    return [*full.detach().flatten()[:5].tolist(), float(full.detach().norm())]


def main():
    torch.set_num_threads(1)
    if "RANK" not in os.environ:
        print(json.dumps({"one": trained("one"), "one by Trainer": by_trainer()}))
        return
    dist.init_process_group("gloo")
    results = {
        "ddp": trained("ddp"),
        "fsdp, with checkpointing": trained("fsdp", checkpointing=True),
        "fsdp experts, coupled afterwards": trained("fsdp experts", coupled_first=False),
    }
    results["ddp by Trainer"] = by_trainer()
    results["refused"] = refusal()
    if dist.get_rank() == 0:
        print(json.dumps(results))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
