"""Laws against the values printed in their papers, and their ranges as data."""

import json
import math
from pathlib import Path

import pytest

from turnout.ops import parameters
from turnout.sparsity.laws import LAWS, Scale, abnar_loss, joint_moe_loss, krajewski_loss

CASES = json.loads((Path(__file__).parents[1] / "vectors" / "budget.json").read_text())
JOINT, ABNAR, KRAJEWSKI = LAWS

# arXiv 2502.05172, Table 4: the joint law at a given E as m·N^µ + n·D^ν + c.
REDUCED = {
    1: (30.3640, -0.1817, 53.9838, -0.1965),
    2: (27.7982, -0.1780, 66.8401, -0.2065),
    4: (24.8462, -0.1731, 87.7022, -0.2192),
    8: (21.8330, -0.1676, 119.9126, -0.2338),
    16: (19.0159, -0.1617, 167.5073, -0.2494),
    32: (16.5424, -0.1557, 234.6726, -0.2652),
}
# arXiv 2402.07871, Table 2: active parameters of 64-fold models, tokens, granularity, loss.
OPTIMAL = [
    (100e6, 4.37e9, 8, 3.133),
    (1e9, 28.94e9, 16, 2.491),
    (3e9, 72.90e9, 16, 2.245),
    (7e9, 137.60e9, 32, 2.076),
    (70e9, 941.07e9, 32, 1.694),
    (1e12, 7.94e12, 64, 1.367),
]


def scale(tokens=19e9, width=1024, layers=16, experts=16, top_k=1, vocab=50_257, expert_width=None):
    wide = expert_width or 2 * width
    counted = parameters(
        width=width, layers=layers, experts=experts, top_k=top_k, vocab=vocab, expert_width=expert_width
    )
    return Scale(tokens=int(tokens), width=width, experts=experts, top_k=top_k, expert_width=wide, parameters=counted)


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_joint_law_vectors(case):
    loss = joint_moe_loss(active=case["active"], tokens=125e9, experts=case["joint_moe_experts"])
    assert loss == pytest.approx(case["joint_moe_loss"], rel=1e-13)


@pytest.mark.parametrize("experts", REDUCED)
@pytest.mark.parametrize(("active", "tokens"), [(79e6, 2e9), (1.1e9, 80e9), (2.7e9, 9.2e9)])
def test_joint_law_reduces_to_the_papers_table(experts, active, tokens):
    m, mu, n, nu = REDUCED[experts]
    expected = m * active**mu + n * tokens**nu + 1.3637
    assert joint_moe_loss(active=active, tokens=tokens, experts=experts) == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize(("active", "tokens", "granularity", "loss"), OPTIMAL)
def test_krajewski_against_its_own_optima(active, tokens, granularity, loss):
    """The coefficients are printed with two to three digits, an error of up to 0.03."""
    total = active / 12 * (8 * 64 + 4)  # 12d² active parameters a block, (8E + 4)d² in all
    computed = krajewski_loss(total_non_embedding=total, tokens=tokens, granularity=granularity)
    assert computed == pytest.approx(loss, abs=0.035)


def test_abnar_at_a_fixed_compute_prefers_sparser_and_larger():
    """Its section 3: at the best size for 1e20 FLOPs loss falls with sparsity while total parameters rise."""
    sizes = [10 ** (8 + step / 50) for step in range(200)]
    best = []
    for sparsity in (0, 0.5, 0.9, 0.95):
        compute = {n: abnar_loss(total=n, tokens=1e20 / (6 * n * (1 - sparsity)), sparsity=sparsity) for n in sizes}
        best.append(min((loss, n) for n, loss in compute.items()))
    losses, totals = zip(*best, strict=True)
    assert list(losses) == sorted(losses, reverse=True)
    assert list(totals) == sorted(totals)


def test_abnar_dense_is_a_plain_sum():
    n, d = 1e9, 20e9
    expected = 16612.5 / n**0.5962 + 5455.67 / d**0.3954 + 0.4598 + 17.26 / n**0.1595 + 0.94
    assert abnar_loss(total=n, tokens=d, sparsity=0) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_more_tokens_never_hurt(law):
    """At 64-fold expansion, where all three apply."""
    losses = [law.predict(scale(tokens, experts=64)).loss for tokens in (1e9, 1e10, 1e11, 1e12)]
    assert losses == sorted(losses, reverse=True)
    assert all(math.isfinite(loss) and loss > 0 for loss in losses)


def test_inside_the_range():
    assert JOINT.predict(scale(experts=16)).in_range
    assert ABNAR.predict(scale(experts=16)).in_range
    small = KRAJEWSKI.predict(scale(20e9, width=512, layers=8, experts=128, top_k=2, expert_width=512))
    assert small.in_range
    assert small.warnings == ()


@pytest.mark.parametrize(
    ("law", "changes", "message"),
    [
        (JOINT, {"tokens": 5e12}, "5T tokens: fitted on 500M to 80B"),
        (JOINT, {"experts": 64}, "64 experts"),
        (JOINT, {"experts": 32, "top_k": 2}, "top-2: fitted on top-1"),
        (JOINT, {"width": 4096}, "active parameters: fitted on 79M to 2.7B"),
        (JOINT, {"width": 512, "tokens": 60e9}, "tokens an active parameter: fitted up to 73"),
        (ABNAR, {"tokens": 5e12}, "training FLOPs"),
        (ABNAR, {"experts": 128}, "R² .68"),
        (KRAJEWSKI, {"experts": 64, "tokens": 1e12}, "1T tokens: fitted on 16B to 130B"),
        (KRAJEWSKI, {"experts": 1024, "top_k": 16}, "times the paper's 8d² parameters"),
        (KRAJEWSKI, {"experts": 2048, "top_k": 32}, "32 chosen experts (G)"),
    ],
    ids=lambda value: getattr(value, "name", str(value)),  # a law's own text holds an address
)
def test_outside_its_range_a_law_warns_and_predicts(law, changes, message, capsys, recwarn):
    prediction = law.predict(scale(**changes))
    assert prediction.loss is not None
    assert not prediction.in_range
    assert any(message in warning for warning in prediction.warnings), prediction.warnings
    assert capsys.readouterr() == ("", "")
    assert not recwarn.list


def test_where_a_law_does_not_apply():
    prediction = KRAJEWSKI.predict(scale(experts=16))
    assert (prediction.loss, prediction.in_range) == (None, False)
    assert prediction.reason == "fitted at a 64-fold expansion alone; here E/K is 16"
