"""Targets of each baseline against plain loops; every method reduces its penalty."""

import pytest
import torch
from aligning.questions import distinct_questions
from tiny import random_model, tiny_tokenizer

from turnout import align
from turnout.aligning import methods
from turnout.aligning.config import ManifoldConfig
from turnout.aligning.methods import PenaltyInputs, penalty_of
from turnout.aligning.neighbors import find_neighbors
from turnout.models.change.adapter import RouterWeights
from turnout.models.wrap.anatomy import read

N, K = 40, 3
GENERATOR = torch.Generator().manual_seed(0)
MOE = read(random_model("olmoe"), tiny_tokenizer(), "tiny")
LAYERS = MOE.layers[-2:]
ROUTING = torch.rand(N, 16, generator=GENERATOR).view(N, 2, 8).softmax(-1).view(N, 16)
EMBEDDING = torch.nn.functional.normalize(torch.randn(N, 5, generator=GENERATOR), dim=1)
ALLOWED = torch.rand(N, generator=GENERATOR) < 0.6
TEXTS = [f"text {i % 33}" for i in range(N)]  # seven questions occur twice
DOMAINS = [("law", "maths", "music")[i % 3] for i in range(N)]


@pytest.fixture(scope="module")
def inputs():
    neighbors = find_neighbors(EMBEDDING, TEXTS, ALLOWED, ManifoldConfig(k=K, sigma=0.5), "made up")
    return PenaltyInputs(ROUTING, neighbors, DOMAINS, LAYERS, RouterWeights.of(LAYERS), None, 0)


def of_all(targets):
    return targets(torch.arange(N))


def indices(near):
    """Index of the question whose routing each target is."""
    return [[(row == ROUTING).all(1).nonzero()[0].item() for row in rows] for rows in near]


def test_neighbors_are_the_nearest_successful_questions_of_other_texts(inputs):
    near, weight = of_all(methods.nearest(inputs))
    first = {}
    for i in range(N):
        if ALLOWED[i]:
            first.setdefault(TEXTS[i], i)
    for i, row in enumerate(indices(near)):
        others = [j for text, j in first.items() if text != TEXTS[i]]
        distance = {j: float((EMBEDDING[i] - EMBEDDING[j]).square().sum()) for j in others}
        expected = sorted(others, key=distance.get)[:K]
        assert row == expected
        sims = torch.tensor([-distance[j] / 0.5 for j in expected]).exp()
        assert weight[i].tolist() == pytest.approx((sims / sims.sum()).tolist(), abs=1e-5)


def test_random_neighbors_are_others_with_the_same_weights(inputs):
    near, weight = of_all(methods.random_neighbors(inputs))
    assert torch.equal(weight, inputs.neighbors.weight_Sk)
    chosen = indices(near)
    for i, row in enumerate(chosen):
        assert len(set(row)) == K
        assert all(ALLOWED[j] and TEXTS[j] != TEXTS[i] for j in row)
    assert sum(row == other for row, other in zip(chosen, indices(of_all(methods.nearest(inputs))[0]), strict=True)) < 3
    assert len({j for row in chosen for j in row}) > len(inputs.neighbors.reference_R) * 0.8


def test_permuted_targets_are_another_questions_neighbors(inputs):
    near, weight = of_all(methods.permuted(inputs))
    own = inputs.neighbors.index_Sk.tolist()
    for i, row in enumerate(indices(near)):
        kept = [j for j, w in zip(row, weight[i].tolist(), strict=True) if w > 0]
        assert all(TEXTS[j] != TEXTS[i] for j in kept)
        assert any(set(kept) <= set(other) for at, other in enumerate(own) if at != i)
        assert float(weight[i].sum()) == pytest.approx(1)


def test_the_domain_mean_leaves_the_question_out(inputs):
    near, weight = of_all(methods.domain_mean(inputs))
    references = inputs.neighbors.reference_R.tolist()
    for i in range(N):
        others = [j for j in references if DOMAINS[j] == DOMAINS[i] and TEXTS[j] != TEXTS[i]]
        assert near[i, 0].tolist() == pytest.approx(ROUTING[others].mean(0).tolist(), abs=1e-6)
        assert weight[i].tolist() == [1.0]


def test_regularizers_are_their_formulas(inputs):
    rows = torch.cat([layer.router.weight for layer in LAYERS]).detach()
    batch = torch.arange(5)
    assert methods.l1(inputs)(ROUTING[:5], batch).item() == pytest.approx(float(rows.abs().sum(1).mean()), rel=1e-6)
    assert methods.l2(inputs)(ROUTING[:5], batch).item() == pytest.approx(float(rows.square().sum(1).mean()), rel=1e-6)
    entropy = torch.distributions.Categorical(ROUTING[:5].view(5, 2, 8)).entropy().mean()
    assert methods.entropy(inputs)(ROUTING[:5], batch).item() == pytest.approx(float(entropy), rel=1e-5)
    assert penalty_of("router-tuning", inputs) is None


@pytest.mark.parametrize("method", ["random-neighbours", "permuted-targets", "domain-mean", "l1", "l2", "entropy"])
def test_every_method_reduces_its_penalty(method, tmp_path):
    """At a weight beside which the cross-entropy is negligible."""
    options = {"embedder": "model", "layers": "last-1", "learning_rate": 1e-2, "batch_size": 12, "epochs": 8, "k": 1}
    result = align(MOE, distinct_questions(24, longest=3), None, tmp_path, method=method, weight=1e3, **options)
    penalties_by_epoch = result.table("curves")["penalty"].to_numpy().reshape(8, 2).mean(1)
    assert penalties_by_epoch[-1] < 0.97 * penalties_by_epoch[0]


def test_live_neighbors_are_read_with_the_current_routers(tmp_path):
    """At the first step they equal the base's; later they differ."""
    options = {
        "embedder": "model",
        "layers": "last-1",
        "learning_rate": 1e-2,
        "batch_size": 24,
        "epochs": 4,
        "weight": 9.0,
    }
    curves = {
        how: align(MOE, distinct_questions(24, longest=3), None, tmp_path / how, neighbours=how, **options).table(
            "curves"
        )
        for how in ("base", "live")
    }
    base, live = (curves[how]["penalty"].to_list() for how in ("base", "live"))
    assert live[0] == pytest.approx(base[0], rel=1e-5)
    assert live[3] != pytest.approx(base[3], rel=1e-3)


def test_warm_up_and_decay(tmp_path):
    options = {"embedder": "model", "layers": "last-1", "batch_size": 12, "epochs": 3, "decay": "cosine", "warmup": 4}
    curves = align(MOE, distinct_questions(24, longest=3), None, tmp_path, target="vocabulary", **options).table(
        "curves"
    )
    assert curves["weight"].to_list() == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8])
    rates = curves["learning_rate"].to_list()
    assert rates[0] == 7e-5
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 7e-6
    assert curves["cross_entropy"].min() > 2  # among 264 tokens, not 4 letters
