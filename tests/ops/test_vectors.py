"""The published vectors: results of the formulas, in every dtype."""

import json
from pathlib import Path

import pytest
import torch

VECTORS = Path(__file__).parents[1] / "vectors"
AUDIT = json.loads((VECTORS / "audit.json").read_text())
TIES = json.loads((VECTORS / "ties.json").read_text())
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}


def tensor(values, dtype=torch.float64):
    return torch.tensor(values, dtype=dtype)


def assert_near(result, expected, dtype):
    assert result.dtype == dtype
    torch.testing.assert_close(result.double(), tensor(expected), rtol=0, atol=TOLERANCE[dtype])


def assert_committee(result, expected):
    assert result.members.tolist() == expected["members"]
    assert result.candidates.tolist() == expected["candidates"]
    assert result.fallback is expected["fallback"]
    for name in ("mean_rank", "rank_variance", "presence"):
        assert getattr(result, name).tolist() == pytest.approx(expected[name], abs=1e-6)
    assert result.members.dtype == result.candidates.dtype == torch.int64


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("case", AUDIT, ids=range(len(AUDIT)))
def test_audit(ops, case, dtype):
    scores, weight, domain = tensor(case["scores"], dtype), tensor(case["weight"], dtype), torch.tensor(case["domain"])
    n_domains, k = int(domain.max()) + 1, case["k"]
    contribution = ops.contribution(scores, domain, n_domains)
    assert_near(contribution, case["contribution"], dtype)
    assert_near(ops.released(weight, domain, n_domains), case["released"], dtype)
    assert ops.ranks(contribution, k).tolist() == case["ranks"]
    result = ops.committee(contribution, k)
    assert_committee(result, case["committee"])
    assert_near(ops.gini(contribution.mean(0)), case["gini"], dtype)
    assert_near(ops.gini_topk(contribution, k), case["gini_topk"], dtype)
    assert_near(ops.jaccard(contribution, k), case["jaccard"], dtype)
    assert_near(ops.coverage_topk(contribution, result.members, k), case["coverage_topk"], dtype)
    coverage = ops.coverage(contribution, result.members)
    assert_near(coverage, case["coverage"], dtype)
    ratio = ops.influence_ratio(coverage, len(result.members), contribution.shape[1])
    assert float(ratio) == pytest.approx(case["influence_ratio"], rel=TOLERANCE[dtype] * 10)
    assert_near(ops.silhouette(scores, domain), case["silhouette"], dtype)


@pytest.mark.parametrize("case", TIES, ids=range(len(TIES)))
def test_ties(ops, case):
    contribution, k = tensor(case["contribution"]), case["k"]
    assert ops.ranks(contribution, k).tolist() == case["ranks"]
    assert_committee(ops.committee(contribution, k), case["committee"])
    assert float(ops.gini(contribution.mean(0))) == pytest.approx(case["gini"], abs=1e-15)
    assert ops.jaccard(contribution, k).tolist() == case["jaccard"]
