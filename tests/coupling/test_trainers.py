"""The term under transformers' Trainer, TRL's SFTTrainer and accelerate: counted once a step, logged, resumable."""

import math
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from datasets import Dataset
from tiny import random_model, tiny_tokenizer
from transformers import Trainer, TrainerCallback, TrainingArguments

import turnout
from turnout import CouplingCallback
from turnout.coupling.trainer import OVERHEAD
from turnout.errors import ModelError

LAYERS = 2
GATE = "model.layers.0.mlp.gate.weight"


def rows(n=12):
    """Right-padded rows of random tokens, of different lengths."""
    generator, made = torch.Generator().manual_seed(1), []
    for i in range(n):
        ids, length = torch.randint(256, (12,), generator=generator), 4 + i % 8
        mask = (torch.arange(12) < length).long()
        made.append({"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)})
    return made


class Gradients(TrainerCallback):
    """The gradients before each optimizer step."""

    def __init__(self):
        self.seen = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.seen.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})


def arguments(folder: Path, kind=TrainingArguments, **given):
    settings = {
        "output_dir": str(folder),
        "max_steps": 1,
        "per_device_train_batch_size": 2,
        "learning_rate": 1e-3,
        "logging_steps": 2,
        "save_strategy": "no",
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
        "max_grad_norm": 0.0,
        "dataloader_pin_memory": False,
        **given,
    }
    return kind(**settings)


def trained(folder, model, *callbacks, data=None, resume=None, **given):
    made = Trainer(model, arguments(folder, **given), train_dataset=data or rows(), callbacks=list(callbacks))
    made.remove_callback(next(c for c in made.callback_handler.callbacks if type(c).__name__ == "PrinterCallback"))
    made.train(resume_from_checkpoint=resume)
    return made


def model_of(family="olmoe"):
    return random_model(family, num_hidden_layers=LAYERS)


def term_gradient(weight, family="olmoe"):
    """The gradient of weight times the term, without noise."""
    model = model_of(family).train()
    ids = torch.zeros(1, 2, dtype=torch.long)
    plain = model(input_ids=ids, labels=ids).loss
    turnout.couple(model, weight=weight, noise=False)
    (model(input_ids=ids, labels=ids).loss - plain).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_once(coupled, plain, weight):
    """The step's gradient with the term is the one without plus the term's, not more."""
    for name, grad in term_gradient(weight).items():
        torch.testing.assert_close(coupled[name], plain[name] + grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
def test_trainer_counts_it_once(tmp_path, checkpointing):
    steps = []
    for weight in (0.0, 2.0):
        model, gradients = model_of(), Gradients()
        turnout.couple(model, weight=weight, noise=False)
        trained(tmp_path, model, gradients, gradient_accumulation_steps=3, gradient_checkpointing=checkpointing)
        steps.append(gradients.seen[0])
    assert_once(steps[1], steps[0], 2.0)


def test_sft_trainer_counts_it_once(tmp_path):
    import trl

    texts = Dataset.from_list([{"text": "gate router " * (1 + i % 4)} for i in range(8)])
    steps, logged = [], []
    for weight in (0.0, 2.0):
        model, gradients, callback = model_of(), Gradients(), CouplingCallback()
        turnout.couple(model, weight=weight, noise=False)
        given = arguments(
            tmp_path, trl.SFTConfig, gradient_accumulation_steps=2, logging_steps=1, bf16=False, max_length=24
        )
        made = trl.SFTTrainer(
            model, given, train_dataset=texts, processing_class=tiny_tokenizer(), callbacks=[gradients, callback]
        )
        made.train()
        steps.append(gradients.seen[0])
        logged.append(next(entry for entry in made.state.log_history if "loss" in entry))
    assert_once(steps[1], steps[0], 2.0)
    assert logged[1]["loss"] == pytest.approx(logged[0]["loss"] + 2 * logged[1]["coupling/erc"], rel=1e-3)
    assert logged[1]["mean_token_accuracy"] == logged[0]["mean_token_accuracy"]


def test_other_log_probabilities_do_not_change():
    """A trainer that compares log-probabilities needs the model's own; the callback refuses it."""
    from trl.trainer import utils

    model, ids = model_of().train(), torch.randint(256, (2, 8), generator=torch.Generator().manual_seed(0))
    utils.add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    plain = model(input_ids=ids, labels=ids, fused_lm_head=True)
    turnout.couple(model)
    coupled = model(input_ids=ids, labels=ids, fused_lm_head=True)
    assert torch.equal(coupled.log_probs, plain.log_probs)
    assert coupled.loss > plain.loss


def test_accelerate_counts_it_once():
    accelerator = Accelerator(gradient_accumulation_steps=2, cpu=True)
    steps = []
    for weight in (0.0, 2.0):
        model = model_of().train()
        coupling = turnout.couple(model, weight=weight, noise=False)
        model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
        for batch in rows(2):
            with accelerator.accumulate(model):
                accelerator.backward(model(**{name: x[None] for name, x in batch.items()}).loss)
                if accelerator.sync_gradients:
                    steps.append({name: p.grad.clone() for name, p in model.named_parameters()})
                optimizer.step()
                optimizer.zero_grad()
        assert coupling.step == 1
    assert_once(steps[1], steps[0], 2.0)


def test_the_log_has_the_figures_and_no_other_number_changes(tmp_path):
    model, callback = model_of(), CouplingCallback()
    turnout.couple(model, weight=0.5)
    made = trained(tmp_path, model, callback, max_steps=4)
    logs = [entry for entry in made.state.log_history if "loss" in entry]
    assert [entry["step"] for entry in logs] == [2, 4]
    names = ("erc", "noise_bound", "rows_dominant", "columns_dominant", "router_norm", "gate_norm")
    for entry in logs:
        for name in names:
            layers = [entry[f"coupling/layer_{layer}/{name}"] for layer in range(LAYERS)]
            assert entry[f"coupling/{name}"] == pytest.approx(sum(layers) / LAYERS)
            assert all(math.isfinite(value) for value in layers)
        assert 0 < entry[OVERHEAD] < 1
    unweighted = model_of()
    coupling = turnout.couple(unweighted, weight=0)
    plain = trained(tmp_path, unweighted, CouplingCallback(per_layer=False), max_steps=4)
    entries = [entry for entry in plain.state.log_history if "loss" in entry]
    assert {"coupling/erc", "coupling/gate_norm"} <= set(entries[0])
    assert not any("layer" in name for entry in entries for name in entry)
    assert coupling.added == 0
    bare = trained(tmp_path, model_of(), max_steps=4)
    assert [e["loss"] for e in bare.state.log_history if "loss" in e] == [e["loss"] for e in entries]


class Steps(TrainerCallback):
    """The coupling's own count of steps at each step."""

    def __init__(self, coupling):
        self.coupling, self.seen = coupling, []

    def on_pre_optimizer_step(self, *_, **__):
        self.seen.append(self.coupling.step)


def test_a_resumed_training_uses_the_noise_of_its_step(tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 2}
    first, second = Steps(None), Steps(None)
    for steps, last, resume in ((first, 2, None), (second, 4, str(tmp_path / "checkpoint-2"))):
        model = model_of()
        steps.coupling = turnout.couple(model, weight=5)
        trained(tmp_path, model, steps, CouplingCallback(), resume=resume, max_steps=last, **saving)
    assert (first.seen, second.seen) == ([0, 1], [2, 3])


def test_what_cannot_be_coupled_is_refused(tmp_path):
    with pytest.raises(ModelError, match="expected a coupled model, got one that is not; couple it"):
        trained(tmp_path, model_of(), CouplingCallback())
    model = model_of()
    turnout.couple(model)
    with pytest.raises(ModelError, match="expected training on the loss that the model returns"):
        trained(tmp_path, model, CouplingCallback(), label_smoothing_factor=0.1)
