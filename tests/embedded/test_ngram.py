"""Kneser–Ney against probabilities by hand, normalization, and refusals."""

import itertools

import numpy as np
import pytest

from turnout.embedded.ngram import KneserNey

HALF = (0.5, 0.5, 0.5)


def test_bigram_by_hand():
    # a b a b a c: bigrams ab 2, ba 2, ac 1. Continuations: b after {a} 1, a after {b} 1, c after {a} 1.
    a, b, c = 0, 1, 2
    model = KneserNey(np.array([a, b, a, b, a, c]), 3, 2, HALF)
    p1 = [(1 - 0.5) / 3 + (3 * 0.5 / 3) / 3] * 3  # each continues one context; discounts go to the uniform 1/3
    # After a (seen 3 times, two different tokens): freed (0.5 + 0.5) / 3.
    expected = [0 / 3 + (1 / 3) * p1[0], 1.5 / 3 + (1 / 3) * p1[1], 0.5 / 3 + (1 / 3) * p1[2]]
    result = [model.probabilities(np.array([a, token]))[1] for token in (a, b, c)]
    assert result == pytest.approx(expected)


def test_trigram_by_hand():
    # 0 1 2 0 1 3: trigrams 012 201 013 120, one each. After (0, 1): 2 and 3, one each, so 0.5/2 each and 1/2 freed.
    model = KneserNey(np.array([0, 1, 2, 0, 1, 3]), 4, 3, HALF)
    # Bigram continuations (different tokens before): 12 1, 01 1, 13 1, 20 1. After 1: 2 and 3.
    # Unigram continuations over different bigrams: 2 1, 1 1, 3 1, 0 1, so each 1/4 after the uniform.
    p1 = 0.5 / 4 + (4 * 0.5 / 4) * (1 / 4)
    p2 = 0.5 / 2 + (2 * 0.5 / 2) * p1
    expected = 0.5 / 2 + (2 * 0.5 / 2) * p2
    assert model.probabilities(np.array([0, 1, 2]))[2] == pytest.approx(expected)
    assert model.probabilities(np.array([3, 1, 2]))[2] == pytest.approx(p2)  # a context never seen: one order lower


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_probabilities_sum_to_one(order):
    rng = np.random.default_rng(0)
    model = KneserNey(rng.choice(7, size=300, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.1, 0.0]), 7, order)
    for context in itertools.product(range(7), repeat=order - 1):
        total = sum(model.probabilities(np.array([*context, token]))[-1] for token in range(7))
        assert total == pytest.approx(1)


def test_unigram_counts_occurrences():
    model = KneserNey(np.array([0, 0, 0, 1]), 2, 1, (0.0, 0.0, 0.0))
    assert model.probabilities(np.array([0, 1])) == pytest.approx([0.75, 0.25])
    assert model.bits(np.array([1])) == pytest.approx([2.0])


def test_a_higher_order_helps_on_a_sequence_with_order():
    rng = np.random.default_rng(1)
    text = np.cumsum(rng.integers(1, 3, size=5000)) % 11
    bits = [KneserNey(text[:4000], 11, n).bits(text[4000:]).mean() for n in (1, 2, 3)]
    assert bits[0] == pytest.approx(np.log2(11), abs=0.05)
    assert bits[1] == pytest.approx(1.0, abs=0.05)
    assert bits[2] == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(("tokens", "vocabulary", "order"), [([0], 3, 2), ([0, 5], 3, 2), ([0, 1], 2**22, 3)])
def test_refusals(tokens, vocabulary, order):
    with pytest.raises(ValueError, match="expected at least"):
        KneserNey(np.array(tokens), vocabulary, order)
