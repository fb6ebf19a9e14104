"""Concurrent batches against one at a time: figures, errors, restoring the model, memory."""

import resource
from pathlib import Path

import pytest
import torch
from tiny import random_model

from turnout.models.forward.capture import capture, capture_batches
from turnout.models.forward.routing import RoutingError
from turnout.models.wrap.anatomy import read


def prompts(n, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, 256, (1 + (seed * 7 + i) % 23,), generator=generator).tolist() for i in range(n)]


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def same(ours, theirs):
    for a, b in zip(ours.layers, theirs.layers, strict=True):
        for name in ("chosen_TK", "scores_BE", "weights_BK", "sum_scores_BE", "sum_weights_BE", "counts_BE"):
            torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=1e-5, atol=1e-6)
    assert ours.choice_logprobs is theirs.choice_logprobs or all(
        a == pytest.approx(b, abs=1e-5) for a, b in zip(ours.choice_logprobs, theirs.choice_logprobs, strict=True)
    )


@pytest.mark.parametrize("with_letters", [False, True])
@pytest.mark.parametrize("family", ["olmoe", "deepseek_v3", "gpt_oss", "lfm2_moe"])
def test_concurrent_batches_equal_one_at_a_time(family, with_letters, two_threads):
    model = random_model(family)
    moe = read(model)
    batches = [prompts(1 + n % 4, n) for n in range(17)]
    letters = [[[1, 2]] * len(batch) for batch in batches] if with_letters else None
    model.train()
    implementation = model.config._experts_implementation
    traces = list(capture_batches(moe, batches, letters=letters))
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    for n, trace in enumerate(traces):
        same(trace, capture(moe, batches[n], letters=None if letters is None else letters[n]))
    assert len(traces) == len(batches)
    assert torch.is_grad_enabled()
    assert all(m.training for m in model.modules())
    assert model.config._experts_implementation == implementation
    assert not any(m._forward_hooks or m._forward_pre_hooks or "forward" in m.__dict__ for m in model.modules())


def test_an_error_is_raised_when_its_batch_is_due(two_threads):
    moe = read(random_model("olmoe"))
    moe.model.model.embed_tokens.weight.data[200] = float("nan")
    batches = [[[1, 2]], [[3]], [[4], [5, 200]], [[6]], [[7]]]
    traces = capture_batches(moe, batches)
    assert next(traces).lengths_B == [2]
    assert next(traces).lengths_B == [1]
    with pytest.raises(RoutingError, match="sample 1 of the batch") as caught:
        next(traces)
    assert caught.value.sample == 1
    assert not any(m._forward_hooks for m in moe.model.modules())
    assert torch.get_num_threads() == 2


def test_closing_the_iterator_restores_the_model(two_threads):
    moe = read(random_model("olmoe"))
    moe.model.train()
    traces = capture_batches(moe, [[[1, 2, 3], [4]]] * 6)
    next(traces)
    traces.close()
    assert moe.model.training
    assert not any(m._forward_hooks or "forward" in m.__dict__ for m in moe.model.modules())


def resident_megabytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def peak(moe, n_batches):
    """Peak resident memory in MB over batches of the same size whose traces are dropped."""
    batch = [[(7 * i + j) % 250 for j in range(100)] for i in range(40)]
    return max(resident_megabytes() for _ in capture_batches(moe, [batch] * n_batches))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_memory_is_flat_in_the_number_of_questions():
    """Keeping the logits of every token would add 3 MB a batch."""
    moe = read(random_model("olmoe", num_experts=64))
    first = peak(moe, 3)
    assert peak(moe, 25) - first < 30
