"""pass@k against every subset; the majority against a plain count."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout import ops


@given(st.integers(1, 7), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_right_answer(n, data):
    correct, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    right = [i < correct for i in range(n)]
    subsets = list(combinations(right, k))
    assert ops.pass_at_k(n, correct, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


@given(st.lists(st.sampled_from(["a", "b", "c", None]), max_size=9))
def test_majority_counts_votes_and_shares_ties(votes):
    counts = {answer: votes.count(answer) for answer in "abc"}
    top = [answer for answer, n in counts.items() if n == max(counts.values()) > 0]
    assert ops.majority(votes, "a") == (1 / len(top) if "a" in top else 0)
    assert sum(ops.majority(votes, answer) for answer in "abc") == pytest.approx(float(bool(top)))


@pytest.mark.parametrize(("n", "correct", "k"), [(3, 4, 1), (3, -1, 1), (3, 1, 0), (3, 1, 4)])
def test_pass_at_k_refuses_numbers_out_of_range(n, correct, k):
    with pytest.raises(ValueError, match="^k: expected 1 to 3" if 0 <= correct <= n else "^correct: expected 0 to 3"):
        ops.pass_at_k(n, correct, k)
