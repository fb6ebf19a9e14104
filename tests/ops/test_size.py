"""Parameters, experts for a TPP, FLOPs and memory: published vectors, plain sums, monotonicity."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout import ops as plain

CASES = json.loads((Path(__file__).parents[1] / "vectors" / "budget.json").read_text())
SHAPE = ("width", "layers", "experts", "top_k", "vocab")
# Ids of the paper's released checkpoints end in their sizes: llm-jp/optimal-sparsity-math-d512-E8-k2-320M-A170M.
RELEASED = {
    (512, 8, 2): ("320M", "170M"),
    (512, 32, 16): ("920M", "520M"),
    (512, 256, 16): ("6.6B", "520M"),
    (1024, 128, 16): ("13.2B", "1.9B"),
    (2048, 16, 16): ("7.1B", "7.1B"),
    (2048, 128, 8): ("52.2B", "3.9B"),
}


def rounded(n):
    """A number in the notation of the ids: no decimals below a billion, one above."""
    return f"{n / 1e9:.1f}B" if n >= 1e9 else f"{round(n / 1e6, -1):.0f}M"


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_vectors(ops, case):
    result = ops.parameters(**{name: case[name] for name in SHAPE})
    assert (result.total, result.active) == (case["total"], case["active"])
    assert ops.tokens_per_parameter(125e9, result.total) == pytest.approx(case["tpp_125B"], rel=1e-14)
    shape = {name: case[name] for name in ("width", "layers", "vocab")}
    best = ops.optimal_experts(tokens=125e9, tpp=20.0, **shape)
    assert best == pytest.approx(case["optimal_experts_20"], rel=1e-14)


@pytest.mark.parametrize("shape", RELEASED, ids=str)
def test_sizes_in_the_names_of_the_released_checkpoints(ops, shape):
    width, experts, top_k = shape
    result = ops.parameters(width=width, layers=16, experts=experts, top_k=top_k, vocab=99584)
    assert (rounded(result.total), rounded(result.active)) == RELEASED[shape]


def test_parameters_by_listing_every_matrix(ops):
    d, layers, e, k, v, i = 6, 3, 5, 2, 11, 7

    def listed(chosen):
        layer = [d * d] * 4 + [d, d] + [e * d] + [d * i, d * i, i * d] * chosen
        return sum(layer * layers) + d

    result = ops.parameters(width=d, layers=layers, experts=e, top_k=k, vocab=v, expert_width=i)
    assert result == plain.Parameters(listed(e) + 2 * v * d, listed(k) + 2 * v * d, listed(e), listed(k))


sizes = st.integers(1, 64)


@given(sizes, st.integers(1, 8), st.integers(1, 300), sizes, st.sampled_from([None, 3, 40]))
@settings(max_examples=60, deadline=None)
def test_optimal_experts_is_the_inverse_of_parameters(width, layers, experts, vocab, wide):
    shape = {"width": width, "layers": layers, "vocab": vocab, "expert_width": wide}
    total = plain.parameters(experts=experts, top_k=1, **shape).total
    assert plain.optimal_experts(tokens=20 * total, tpp=20, **shape) == pytest.approx(experts, rel=1e-9)


@given(st.integers(1, 40), st.one_of(st.none(), st.integers(1, 60)))
@settings(max_examples=60, deadline=None)
def test_seen_keys_by_counting(context, window):
    reach = context if window is None else window
    counted = sum(min(position + 1, reach) for position in range(context)) / context
    assert plain.seen_keys(context, window) == pytest.approx(counted)
    assert plain.seen_keys(context, window, causal=False) == min(reach, context)


def test_flops_by_hand(ops):
    result = ops.flops(active_products=100, attention_widths=[(8, None), (8, 2), (0, None)], context=4)
    assert result.products == 200
    assert result.attention == 2 * 8 * 2.5 + 2 * 8 * (1 + 2 + 2 + 2) / 4
    assert result.training == 3 * result.inference == 3 * (result.products + result.attention)
    assert ops.rule_of_thumb_flops(1000).training == 6000


def test_memory_by_hand(ops):
    given_ = {"total": 1000, "activations": 50, "logits": 7, "cached": 90, "training_tokens": 3}
    result = ops.memory(**given_)
    assert (result.weights, result.gradients, result.optimizer) == (2000, 2000, 12_000)
    assert result.activations == 3 * (50 * 2 + 7 * 6)
    assert (result.training, result.inference) == (16_000 + result.activations, 2000 + 180)
    assert ops.memory(**given_, master=False).optimizer == 8000
    assert ops.memory(**given_, weight_bytes=4, master=False).weights == 4000
    assert ops.cached_numbers([(64, None), (64, 10), (0, None)], context=100, sequences=2) == 2 * (6400 + 640)


@pytest.mark.parametrize(
    ("function", "change", "named"),
    [
        ("parameters", {"top_k": 9}, "top_k"),
        ("parameters", {"width": 0}, "width"),
        ("parameters", {"experts": True}, "experts"),
        ("parameters", {"layers": 2.5}, "layers"),
        ("parameters", {"expert_width": -4}, "expert_width"),
        ("optimal_experts", {"tpp": 0}, "tpp"),
        ("optimal_experts", {"tokens": float("nan")}, "tokens"),
    ],
)
def test_refusals(function, change, named):
    good = {"width": 8, "layers": 2, "vocab": 5}
    good |= {"experts": 8, "top_k": 2} if function == "parameters" else {"tokens": 1e6, "tpp": 20}
    with pytest.raises(ValueError, match=f"^{named}: expected") as raised:
        getattr(plain, function)(**good | change)
    assert "\n" not in str(raised.value)


def test_invalid_numbers():
    with pytest.raises(ValueError, match="context: expected"):
        plain.flops(active_products=1, attention_widths=[], context=0)
    with pytest.raises(ValueError, match="total: expected"):
        plain.tokens_per_parameter(1e9, 0)
    with pytest.raises(ValueError, match="cached: expected"):
        plain.memory(total=1, activations=1, logits=0, cached=-1, training_tokens=1)
