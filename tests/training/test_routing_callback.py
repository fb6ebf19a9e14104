"""Logs of the callback in a real Trainer, against counts in plain loops."""

import math
import warnings
from collections import Counter
from pathlib import Path

import pytest
import torch
from tiny import random_model
from torch import nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import CallbackHandler

from turnout import RoutingCallback
from turnout.errors import ModelError
from turnout.models.wrap.anatomy import read
from turnout.training.routing_callback import FIGURES

FAMILIES = ("olmoe", "qwen3_moe", "mixtral", "deepseek_v2")
CHECKPOINTING = {
    "plain": {},
    "non-reentrant": {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}},
    "reentrant": {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}},
}


class Reporter(TrainerCallback):
    """Reporter in the place of wandb: among the Trainer's own callbacks, before the user's."""

    def __init__(self):
        self.seen = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.seen.append((state.global_step, dict(logs)))


class Recount(TrainerCallback):
    """Counts by hand: every call of a router outside of a backward pass, token by token, from its own hooks."""

    def __init__(self, moe):
        self.moe, self.counts, self.tokens = moe, {x.layer: Counter() for x in moe.layers}, Counter()
        self.scores, self.mask = {x.layer: [] for x in moe.layers}, None
        moe.model.register_forward_pre_hook(self.note_mask, with_kwargs=True)
        for layer in moe.layers:
            layer.router.register_forward_hook(lambda m, a, out, layer=layer: self.note(layer, out))

    def note_mask(self, model, args, kwargs):
        self.training = model.training and torch.is_grad_enabled()
        if self.training:
            self.mask = kwargs["attention_mask"].reshape(-1).tolist()

    def note(self, layer, output):
        if not self.training or torch._C._current_graph_task_id() != -1:  # evaluation; recomputed in a backward pass
            return
        for real, row, logits in zip(self.mask, output[2].tolist(), output[0].detach(), strict=True):
            if real:
                self.tokens[layer.layer] += 1
                self.counts[layer.layer].update(row)
                self.scores[layer.layer].append(logits.double().softmax(-1))


def rows(n, seed=0, longest=12):
    """Left- and right-padded rows of random tokens of different lengths."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for i in range(n):
        length = 3 + int(torch.randint(longest - 3, (), generator=generator))
        ids, mask = torch.full((longest,), 256), torch.zeros(longest, dtype=torch.long)
        where = slice(0, length) if i % 2 else slice(longest - length, longest)
        ids[where] = torch.randint(256, (length,), generator=generator)
        mask[where] = 1
        made.append({"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)})
    return made


def trainer(model, folder: Path, *callbacks, steps=4, batch=2, accumulate=1, evaluate=False, **arguments):
    given = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulate,
        logging_steps=2,
        eval_strategy="steps" if evaluate else "no",
        eval_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **arguments,
    )
    made = Trainer(model, given, train_dataset=rows(16), eval_dataset=rows(4, 1), callbacks=list(callbacks))
    made.remove_callback(next(c for c in made.callback_handler.callbacks if type(c).__name__ == "PrinterCallback"))
    return made


def reported(made, *callbacks):
    """A reporter put before the user's callbacks, as `report_to` does."""
    reporter = Reporter()
    made.callback_handler.callbacks.insert(1, reporter)
    made.train()
    return reporter


def test_probabilities_are_not_scored_twice(tmp_path):
    """Gemma 4's router returns probabilities; a softmax of those has an entropy of 1.000000."""
    model = random_model("gemma4_text")
    projection, masks, entropies = model.model.layers[0].router.proj, [], []
    projection.weight.data *= 10

    def keep(module, _, output):
        if module.training:
            p = output.detach().double().softmax(-1)
            entropies.extend((-(p * p.log()).sum(-1) / math.log(8))[masks[-1]].tolist())

    model.register_forward_pre_hook(
        lambda _, __, kwargs: masks.append(kwargs["attention_mask"].bool().reshape(-1)) if "labels" in kwargs else None,
        with_kwargs=True,
    )
    callback = RoutingCallback()
    made = trainer(model, tmp_path, callback, steps=2)
    projection.register_forward_hook(keep)
    reported(made)
    assert len(entropies) == callback.loads[0].n_tokens
    assert callback.loads[0].token_entropy == pytest.approx(sum(entropies) / len(entropies), abs=1e-6)
    assert callback.loads[0].token_entropy < 0.995


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("checkpointing", CHECKPOINTING)
def test_counts_are_tokens_times_k_with_and_without_recomputation(tmp_path, checkpointing, accumulate):
    model = random_model("olmoe")
    recount, callback = Recount(read(model)), RoutingCallback()
    made = trainer(model, tmp_path, callback, steps=2, accumulate=accumulate, **CHECKPOINTING[checkpointing])
    reported(made)
    assert set(callback.loads) == {0, 1, 2}
    for layer in recount.moe.layers:
        load = callback.loads[layer.layer]
        assert load.n_tokens == recount.tokens[layer.layer] > 0
        assert list(load.counts) == [recount.counts[layer.layer][e] for e in range(layer.n_experts)]
        assert sum(load.counts) == load.n_tokens * layer.top_k


@pytest.mark.parametrize("family", FAMILIES)
def test_figures_equal_a_plain_loop(tmp_path, family):
    model = random_model(family)
    recount, callback = Recount(read(model)), RoutingCallback()
    made = trainer(model, tmp_path, callback, steps=2, evaluate=True)
    ((step, logs),) = [entry for entry in reported(made).seen if "loss" in entry[1]]
    assert step == 2
    for layer in recount.moe.layers:
        n, experts = recount.tokens[layer.layer], layer.n_experts
        share = [recount.counts[layer.layer][e] / (n * layer.top_k) for e in range(experts)]
        scores = [p.tolist() for p in recount.scores[layer.layer]]
        mean = [sum(p[e] for p in scores) / n for e in range(experts)]
        expected = {
            "load_max_over_mean": max(share) * experts,
            "load_cv": math.sqrt(sum((s - 1 / experts) ** 2 for s in share) / experts) * experts,
            "load_entropy": -sum(s * math.log(s) for s in share if s) / math.log(experts),
            "token_entropy": -sum(x * math.log(x) for p in scores for x in p if x) / n / math.log(experts),
            "dead_experts": sum(s == 0 for s in share),
            "balance": experts * sum(f * p for f, p in zip(share, mean, strict=True)),
        }
        assert set(expected) == set(FIGURES)
        for name, value in expected.items():
            assert logs[f"routing/layer_{layer.layer}/{name}"] == pytest.approx(value, rel=1e-5), name


def test_reporters_and_history_get_figures_in_training_logs_only(tmp_path):
    model, callback = random_model("olmoe"), RoutingCallback()
    made = trainer(model, tmp_path, callback, evaluate=True)
    seen = reported(made).seen
    training = [(step, logs) for step, logs in seen if "loss" in logs]
    assert [step for step, _ in training] == [2, 4]
    for _, logs in training:
        assert {f"routing/{name}" for name in (*FIGURES, "committee_jaccard_first")} <= set(logs)
        assert all(isinstance(value, float) for value in logs.values())
    assert not any("routing" in key for _, logs in seen if "loss" not in logs for key in logs)
    stored = [entry for entry in made.state.log_history if "loss" in entry]
    assert [entry["routing/balance"] for entry in stored] == [logs["routing/balance"] for _, logs in training]


def test_tensorboard_style_reporters_are_called_after_it(tmp_path):
    callback = RoutingCallback()
    made = trainer(random_model("olmoe"), tmp_path, callback, steps=2)
    others = [c for c in made.callback_handler.callbacks if c is not callback]
    made.train()
    assert made.callback_handler.callbacks == [callback, *others]


def test_drift_compares_committees_by_load(tmp_path):
    class Push(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            with torch.no_grad():  # from step 2 on the routers mirror themselves: other experts win
                if state.global_step == 2:
                    for layer in moe.layers:
                        layer.router.weight.neg_()

    model = random_model("olmoe")
    moe, callback = read(model), RoutingCallback(per_layer=False)
    made = trainer(model, tmp_path, callback, Push(), steps=6, batch=16, learning_rate=1e-12)
    logs = [logs for _, logs in reported(made).seen if "loss" in logs]
    first = [entry["routing/committee_jaccard_first"] for entry in logs]
    before = [entry["routing/committee_jaccard_previous"] for entry in logs]
    assert first[0] == before[0] == 1
    assert first[1] < 0.5
    assert before[1] == first[1]
    assert before[2] == 1
    assert first[2] == first[1]
    assert not any("layer" in key for entry in logs for key in entry)


def test_training_is_the_same_with_and_without(tmp_path):
    weights = []
    for callbacks in ([], [RoutingCallback()]):
        model = random_model("olmoe")
        trainer(model, tmp_path, *callbacks, evaluate=True).train()
        weights.append(torch.cat([p.detach().reshape(-1) for p in model.parameters()]))
    assert torch.equal(*weights)


def test_hooks_are_removed_after_a_failed_training(tmp_path):
    class Fail(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if fail:
                raise KeyboardInterrupt

    model, callback, fail = random_model("olmoe"), RoutingCallback(), True
    made = trainer(model, tmp_path, callback, Fail(), steps=2)
    with pytest.raises(KeyboardInterrupt):
        made.train()
    fail = False
    made.train()  # registers its hooks again, once
    assert callback.loads[0].n_tokens == sum(int(row["attention_mask"].sum()) for row in sampled(made))
    assert not any(hooks(module) for module in model.modules())


def sampled(made):
    """The rows of the first two batches of two, as the trainer's own loader gives them under its seed."""
    from transformers import set_seed

    set_seed(made.args.seed)
    loader = made.get_train_dataloader()
    loader.set_epoch(0) if hasattr(loader, "set_epoch") else None
    for _, batch in zip(range(2), loader, strict=False):
        yield batch


def hooks(module: nn.Module):
    return list(module._forward_hooks) + list(module._forward_pre_hooks)


def test_a_dense_model_is_refused_in_one_line(tmp_path):
    made = trainer(random_model("llama"), tmp_path, RoutingCallback())
    with pytest.raises(ModelError, match="dense"):
        made.train()


def test_a_mask_from_which_padding_cannot_be_read_is_warned_of_once(tmp_path):
    model = random_model("olmoe").train()
    handler = CallbackHandler([RoutingCallback()], model, None, None, None)
    handler.on_train_begin(TrainingArguments(str(tmp_path), report_to=[]), TrainerState(), TrainerControl())
    inputs = {"input_ids": torch.ones(1, 4, dtype=torch.int64), "attention_mask": torch.zeros(1, 1, 4, 4)}
    with pytest.warns(UserWarning, match="4-dimensional"):
        model(**inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(**inputs)
