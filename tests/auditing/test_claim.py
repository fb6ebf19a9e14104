"""The claim on planted truth: verdicts at its thresholds, and how often they are wrong."""

import numpy as np
import pytest
import torch

from experiments.shared import planted
from turnout.auditing.evidence.bootstrap import Clusters
from turnout.auditing.evidence.claim import INVARIANCE, MAJORITY, claim, halves, model_claim

DESIGN = planted.Design(experts=24)
ROTATED = np.minimum(1, np.arange(1, DESIGN.experts + 1) / DESIGN.experts * 1.8)
DRAWS = 200


def verdicts(structure, draws=DRAWS, rotated=ROTATED, design=DESIGN):
    rng = np.random.default_rng(1)
    claims = [
        claim(
            planted.draw(structure, design, rng),
            design.clusters(),
            design.top_k,
            presence=0.8,
            rotated=rotated,
            seed=seed,
            n=200,
        )
        for seed in range(draws)
    ]
    return [one["verdict"] for one in claims]


def share(received, *names):
    return sum(verdict in names for verdict in received) / len(received)


CORE = ("core", "dominant committee")


@pytest.mark.parametrize(
    "make",
    [
        planted.uniform,
        planted.domain_routing,
        planted.concentrated_but_specific,
        planted.invariant_but_diffuse,
        lambda design: planted.invariance_at(INVARIANCE, design),
    ],
    ids=["uniform", "domain routing", "specific", "diffuse", "least domain at the threshold"],
)
def test_no_core_where_there_is_none(make):
    assert share(verdicts(make(DESIGN)), *CORE) <= 0.05


def test_no_dominance_at_half():
    assert share(verdicts(planted.core_covering(MAJORITY, DESIGN)), "dominant committee") <= 0.05


def test_core_but_no_dominance_just_under_half():
    received = verdicts(planted.core_covering(0.47, DESIGN))
    assert share(received, "dominant committee") == 0
    assert share(received, "core") >= 0.95


def test_dominance_at_a_stated_distance_is_detected():
    assert share(verdicts(planted.core_covering(0.57, DESIGN)), "dominant committee") >= 0.95


def test_invariance_at_a_stated_distance_is_detected():
    assert share(verdicts(planted.invariance_at(0.92, DESIGN)), *CORE) >= 0.95


def test_no_core_at_what_a_rotated_router_covers():
    size = DESIGN.top_k - 1
    rotated = np.full(DESIGN.experts, 0.4)
    assert rotated[size - 1] == 0.4
    assert share(verdicts(planted.core_covering(0.4, DESIGN), rotated=rotated), *CORE) <= 0.05


def test_without_the_rotated_router_a_core_cannot_be_claimed():
    received = verdicts(planted.core_covering(0.6, DESIGN), draws=5, rotated=None)
    assert received == ["cannot tell"] * 5
    assert verdicts(planted.uniform(DESIGN), draws=5, rotated=None) == ["none"] * 5, "other parts decide already"


def test_a_domain_with_one_sample_cannot_be_halved():
    result = claim(
        torch.rand(7, 6, dtype=torch.float64),
        Clusters(np.array([0] * 6 + [1]), np.arange(7), 2),
        2,
        presence=0.8,
        rotated=None,
        seed=0,
    )
    assert result["verdict"] == "cannot tell"
    assert "too few" in result["reason"]


def test_halves_split_each_subject():
    clusters = DESIGN.clusters()
    first, second = halves(clusters, np.random.default_rng(0))
    assert sorted([*first, *second]) == list(range(len(clusters.domain_S)))
    assert (np.bincount(clusters.subject_S[first]) == DESIGN.samples // 2).all()


def test_candidates_recover_noisy_members_that_the_pareto_set_drops():
    """METHODS' planted truth: three members at twice the odds of the others, domains noisy."""
    from turnout import ops

    design = planted.Design(subjects=10, samples=10, subject_noise=0.0, sample_noise=0.2)
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(design.clusters().domain_S)
    hits = {"candidates": 0, "members": 0}
    for _ in range(100):
        scores = planted.draw(planted.noisy_members(0.1, design, rng), design, rng)
        committee = ops.committee(ops.contribution(scores, labels, design.domains), design.top_k)
        hits["candidates"] += {0, 1, 2} <= set(committee.candidates.tolist())
        hits["members"] += {0, 1, 2} <= set(committee.members.tolist())
    assert hits["candidates"] >= 95
    assert hits["members"] < 50


def passed_at(p):
    """Parts of a claim that all passed, with the same p where a part is tested."""
    tested = ("invariant", "above_floor", "above_rotated", "majority")
    return {"compact": {"p": None, "passed": True}} | {name: {"p": p, "passed": True} for name in tested}


@pytest.mark.parametrize(
    ("p_values", "layers"), [([0.01, 0.02, 0.03], 3), ([0.01, 0.04, 0.03], 1), ([0.02, 0.02, 0.02], 0)]
)
def test_model_claim_corrects_over_layers_as_holm_does(p_values, layers):
    claims = [{"parts": passed_at(p)} for p in p_values]
    assert model_claim(claims)["core"] == {"layers": layers, "of": len(p_values)}


def test_a_part_that_was_not_tested_or_failed_counts_against_the_layer():
    for name, part in (("compact", {"p": None, "passed": False}), ("above_rotated", None)):
        assert model_claim([{"parts": passed_at(0.001) | {name: part}}])["core"]["layers"] == 0


def test_model_claim_counts_layers():
    strong = claim(
        planted.draw(planted.core_covering(0.7, DESIGN), DESIGN, np.random.default_rng(0)),
        DESIGN.clusters(),
        DESIGN.top_k,
        presence=0.8,
        rotated=ROTATED,
        seed=0,
    )
    none = claim(
        planted.draw(planted.uniform(DESIGN), DESIGN, np.random.default_rng(0)),
        DESIGN.clusters(),
        DESIGN.top_k,
        presence=0.8,
        rotated=ROTATED,
        seed=0,
    )
    assert model_claim([strong, none]) == {
        "core": {"layers": 1, "of": 2},
        "dominant committee": {"layers": 1, "of": 2},
    }
