"""An invalid argument is a ValueError of one line that names it, what was expected and what was received."""

import pytest
import torch

from turnout import ops

X = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
LABELS = torch.tensor([0, 1])
NAN = X.clone()
NAN[1, 2] = torch.nan

CASES = {
    "NaN": (lambda: ops.contribution(NAN, LABELS, 2), r"scores_SE: expected finite numbers, got nan at \[1, 2\]"),
    "infinity": (lambda: ops.ranks(X / 0, 1), "contribution_DE: expected finite"),
    "shape": (lambda: ops.contribution(X[0], LABELS, 2), r"scores_SE: expected shape \[S, E\].*got \[3\]"),
    "empty": (lambda: ops.contribution(X[:0], LABELS[:0], 2), r"got \[0, 3\]"),
    "integers": (lambda: ops.gini(torch.tensor([1, 2])), "x_E: expected a tensor of floats, got torch.int64"),
    "no tensor": (lambda: ops.gini([0.1, 0.2]), "x_E: expected a tensor of floats, got list"),
    "float labels": (lambda: ops.contribution(X, LABELS.float(), 2), "domain_S: expected a tensor of integers"),
    "label count": (lambda: ops.contribution(X, torch.tensor([0]), 1), r"domain_S: expected shape \[2\]"),
    "label range": (lambda: ops.contribution(X, LABELS, 1), "domain_S: expected labels from 0 to 0.*got 0 to 1"),
    "label below 0": (lambda: ops.contribution(X, LABELS - 1, 2), "got -1 to 0"),
    "empty domain": (lambda: ops.contribution(X, LABELS * 2, 3), "a sample in each domain, got none in domain 1"),
    "released frequency": (lambda: ops.released(X, LABELS, 2, X[:, :2]), r"frequency_SE: expected shape \[2, 3\]"),
    "released negative": (lambda: ops.released(-X, LABELS, 2), "weight_SE: expected numbers of at least 0"),
    "k 0": (lambda: ops.ranks(X, 0), "k: expected 1 to 3, the number of experts, got 0"),
    "k above E": (lambda: ops.jaccard(X, 4), "k: expected 1 to 3"),
    "k of coverage": (lambda: ops.coverage_topk(X, LABELS, 4), "k: expected 1 to 3"),
    "presence": (lambda: ops.committee(X, 1, presence=0), "presence: expected a share above 0"),
    "negative": (lambda: ops.gini(-X[0]), "x_E: expected numbers of at least 0"),
    "nothing": (lambda: ops.gini(X[0] * 0), "x_E: expected a sum above 0, got 0"),
    "nothing to draw": (lambda: ops.lorenz(X[0] * 0), "x_E: expected a sum above 0"),
    "nothing in a domain": (lambda: ops.gini_topk(X * torch.tensor([[1], [0]]), 1), r"contribution_DE\[1\]: expected"),
    "nothing to cover": (lambda: ops.coverage(X * 0, LABELS), "contribution_DE: expected a sum above 0"),
    "member range": (lambda: ops.coverage(X, torch.tensor([3])), r"members: expected indices from 0 to 2, got \[3\]"),
    "member twice": (lambda: ops.coverage(X, torch.tensor([1, 1])), "members: expected each expert once"),
    "member floats": (lambda: ops.coverage(X, torch.tensor([1.0])), "members: expected a 1-dimensional tensor"),
    "size": (lambda: ops.influence_ratio(torch.tensor(0.5), 0, 3), "size: expected 1 to 3"),
    "share": (lambda: ops.influence_ratio(torch.tensor(1.5), 1, 3), "coverage: expected a share"),
    "one domain": (lambda: ops.silhouette(X, LABELS * 0), "domain_S: expected at least two domains, got one"),
    "zeros": (lambda: ops.silhouette(X * torch.tensor([[1], [0]]), LABELS), "row 1 of zeros"),
}


@pytest.mark.parametrize("name", CASES)
def test_refused(name):
    call, message = CASES[name]
    with pytest.raises(ValueError, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)
