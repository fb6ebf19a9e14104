"""Results have the input's dtype; half precision is computed in float32."""

import pytest
import torch

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_formula_returns_its_dtype(ops, dtype):
    scores = torch.rand(12, 6, generator=torch.Generator().manual_seed(0)).softmax(-1).to(dtype)
    domain = torch.arange(12) % 3
    contribution = ops.contribution(scores, domain, 3)
    result = ops.committee(contribution, 2)
    coverage = ops.coverage(contribution, result.members)
    results = [
        contribution,
        ops.released(scores, domain, 3),
        ops.silhouette(scores, domain),
        result.mean_rank,
        result.rank_variance,
        result.presence,
        ops.gini(contribution[0]),
        ops.gini_topk(contribution, 2),
        ops.lorenz(contribution[0]),
        ops.jaccard(contribution, 2),
        ops.jaccard_mean(contribution, 2),
        ops.largest_coverage(contribution),
        coverage,
        ops.coverage_topk(contribution, result.members, 2),
        ops.influence_ratio(coverage, 2, 6),
    ]
    assert {result.dtype for result in results} == {dtype}
    assert [tuple(result.shape) for result in results[-3:]] == [()] * 3


@pytest.mark.parametrize("dtype", DTYPES[2:], ids=str)
def test_half_precision_is_computed_in_float32(ops, dtype):
    scores = torch.rand(4000, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    domain = torch.zeros(4000, dtype=torch.int64)
    exact = ops.contribution(scores.float(), domain, 1)
    assert torch.equal(ops.contribution(scores, domain, 1), exact.to(dtype))
    assert torch.equal(ops.gini(scores[:, 0]), ops.gini(scores[:, 0].float()).to(dtype))
    assert torch.equal(ops.gini_topk(scores[:9], 2), ops.gini_topk(scores[:9].float(), 2).to(dtype))


def test_inputs_are_not_changed(ops):
    scores, domain = torch.rand(6, 4), torch.arange(6) % 2
    before = scores.clone()
    ops.contribution(scores, domain, 2), ops.released(scores, domain, 2), ops.silhouette(scores, domain)
    ops.committee(scores, 2), ops.gini_topk(scores, 2), ops.coverage_topk(scores, torch.tensor([1]), 2)
    assert torch.equal(scores, before)
