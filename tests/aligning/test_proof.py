"""The regularizer trains: gradients and their sign, a huge λ, losses against a plain loop, and what must not change."""

from dataclasses import replace

import pytest
import torch
from aligning.plain import plain_losses
from auditing.tiny_tasks import task_set
from listeners import Recorder
from tiny import random_model, tiny_tokenizer

from turnout import align, ops
from turnout.models.change.adapter import RouterAdapter, RouterWeights
from turnout.models.forward.tail import Tail
from turnout.models.wrap.anatomy import read
from turnout.tasks.prompts import encode, letter_ids
from turnout.tasks.question import TaskSet

QUICK = {"embedder": "model", "layers": "last-2", "learning_rate": 1e-2, "batch_size": 16}
NOTES = []


def tiny(seed=0, family="olmoe"):
    return read(random_model(family, seed), tiny_tokenizer(), "tiny")


def aligned(tmp_path, moe=None, tasks=None, **options):
    return align(
        moe or tiny(),
        tasks or task_set(32, longest=4),
        None,
        tmp_path,
        listener=Recorder(NOTES),
        **{**QUICK, **options},
    )


@pytest.fixture(scope="module")
def manifold():
    """The manifold loss of a model's last two routers on some questions, as a function of their weights."""
    moe, tasks = tiny(), task_set(12)
    prompts = [encode(moe.tokenizer, q) for q in tasks.questions]
    tail = Tail(moe, moe.layers[1:], letter_ids(moe.tokenizer, 4))
    weights = RouterWeights.of(tail.layers)
    with tail.opened():
        base, states = tail.run_model(prompts)
        index = torch.arange(12).roll(1)[:, None]

        def loss():
            with weights.in_use():
                routing = tail.resume(prompts, states).routing_BF
            return ops.manifold_loss(routing, base.routing_BF[index], torch.ones(12, 1))

        yield loss, weights


def test_the_regularizer_has_a_gradient_of_the_right_size_and_sign(manifold):
    """Finite differences along the gradient; a step against it reduces the distance of r_i to its neighbors."""
    loss, weights = manifold
    tensors = list(weights.tensors.values())
    before = loss()
    gradients = torch.autograd.grad(before, tensors)
    assert all(g.abs().max() > 1e-4 for g in gradients)
    length = sum(float(g.square().sum()) for g in gradients) ** 0.5
    # For the last router alone: no other layer's choice of experts depends on it, so the loss is smooth in it.
    last = float(gradients[-1].norm())
    step = 3e-3 / last
    with torch.no_grad():
        tensors[-1] += step * gradients[-1]
        above = loss().item()
        tensors[-1] -= 2 * step * gradients[-1]
        below = loss().item()
        tensors[-1] += step * gradients[-1]
        assert (above - below) / (2 * step * last) == pytest.approx(last, rel=2e-2)
        assert below < before.item() < above
        for tensor, gradient in zip(tensors, gradients, strict=True):
            tensor -= 1e-3 / length * gradient
        assert loss().item() < before.item()


def test_a_huge_weight_brings_questions_to_their_neighbors(tmp_path):
    """Tuning for the answers alone does not."""
    options = {"k": 1, "epochs": 25, "learning_rate": 3e-2}
    pulled = aligned(tmp_path / "pulled", weight=1e4, **options).manifold
    tuned = aligned(tmp_path / "tuned", method="router-tuning", **options).manifold
    assert pulled["before"] == tuned["before"] > 0
    assert pulled["after"] < 0.4 * pulled["before"]
    assert tuned["after"] > 0.8 * tuned["before"]


def test_losses_are_those_of_the_plain_loop(tmp_path):
    """Whole forwards with autograd, one question at a time: the same cross-entropy and manifold loss at every step."""
    tasks = task_set(16, longest=4)
    options = {"batch_size": 32, "epochs": 3, "weight": 5.0, "token_budget": 600}
    result = aligned(tmp_path / "run", tasks=tasks, **options)
    curves, near = result.table("curves"), result.table("neighbours")
    place = {q.id: i for i, q in enumerate(tasks.questions)}
    groups = [near.filter(id=q.id).sort("rank") for q in tasks.questions]
    moe = tiny()
    losses = plain_losses(
        moe,
        moe.layers[-2:],
        [encode(moe.tokenizer, q) for q in tasks.questions],
        [q.answer for q in tasks.questions],
        letter_ids(moe.tokenizer, 4),
        [[place[n] for n in g["neighbour"]] for g in groups],
        [g["weight"].to_list() for g in groups],
        {"learning_rate": 1e-2, "weight": 5.0},
        steps=3,
    )
    assert curves["cross_entropy"].to_list() == pytest.approx([a for a, _ in losses], rel=2e-5)
    assert curves["penalty"].to_list() == pytest.approx([b for _, b in losses], rel=2e-4)
    assert curves["loss"].to_list() == pytest.approx([a + 5 * b for a, b in losses], rel=2e-4)
    adapter = RouterAdapter.read(tmp_path / "run").tensors
    for layer in moe.layers[-2:]:
        torch.testing.assert_close(adapter[f"{layer.name}.weight"], layer.router.weight.detach(), rtol=0, atol=2e-4)


def test_padding_batches_and_cache_change_nothing(tmp_path):
    runs = {
        "wide": aligned(tmp_path / "wide", epochs=1),
        "alone": aligned(tmp_path / "alone", token_budget=1, epochs=1),
        "left": aligned(tmp_path / "left", padding="left", epochs=1),
        "uncached": aligned(tmp_path / "uncached", cache_gb=0, epochs=1),
        "partly": aligned(tmp_path / "partly", cache_gb=1e-4, epochs=1),
    }
    wide = runs["wide"].table("curves")
    for name, run in runs.items():
        curves = run.table("curves")
        for column in ("loss", "penalty", "gradient_norm"):
            assert curves[column].to_list() == pytest.approx(wide[column].to_list(), rel=1e-4), name
        near, others = (r.table("neighbours") for r in (run, runs["wide"]))
        assert near["neighbour"].to_list() == others["neighbour"].to_list()


def test_the_same_seed_gives_the_same_bytes_and_the_model_is_unchanged(tmp_path):
    moe = tiny()
    digest = moe.digest()
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        aligned(tmp_path / name, moe, seed=seed)
    assert moe.digest() == digest
    bytes_of = {n: (tmp_path / n / "adapter.safetensors").read_bytes() for n in "abc"}
    assert bytes_of["a"] == bytes_of["b"] != bytes_of["c"]
    for file in ("align.json", "adapter.json", "tables/curves.parquet", "tables/neighbours.parquet"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_neighbors_are_never_the_question_itself_nor_one_of_its_text(tmp_path):
    questions = task_set(30, longest=4).questions
    twins = [replace(q, id=f"{q.id} again", text=f" {q.text.upper()} ") for q in questions[:10]]
    tasks = TaskSet.of("twins", [*questions, *twins])
    near = aligned(tmp_path / "run", tasks=tasks, k=4).table("neighbours")
    text = {q.id: q.text.strip().casefold() for q in tasks.questions}
    assert len(near) == 4 * 40
    for row in near.rows(named=True):
        assert text[row["id"]] != text[row["neighbour"]]
