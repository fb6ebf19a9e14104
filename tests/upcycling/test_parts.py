"""Groups, routers and text of an upcycling, on inputs with known results."""

import json

import pytest
import torch
from tiny import tiny_tokenizer

from turnout import UpcycleConfig
from turnout.errors import RecipeError, TaskError
from turnout.upcycling import grouping, routers
from turnout.upcycling.text import read_text


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def planted(n_groups=4, width=6, tokens=200):
    """Shuffled neurons, active in groups on the same tokens: activity [T, I] and the group of each."""
    group = torch.arange(n_groups).repeat_interleave(width)[torch.randperm(n_groups * width, generator=generator())]
    active = torch.randint(n_groups, (tokens,), generator=generator(1))
    signs = torch.randn(tokens, len(group), generator=generator(2))
    return (group == active[:, None]).float() * signs + 0.01 * signs.flip(0), group


def test_planted_groups_are_found():
    activity, group = planted()
    made = grouping.balanced_groups(grouping.coactivation(activity), 4, generator())
    assert sorted(made.flatten().tolist()) == list(range(24))
    assert all(len(set(group[row].tolist())) == 1 for row in made)


@pytest.mark.parametrize("seed", range(5))
def test_groups_have_equal_sizes(seed):
    features = torch.randn(40, 3, generator=generator(seed)) + torch.tensor([5.0, 0, 0])
    made = grouping.balanced_groups(features, 8, generator(seed))
    assert made.shape == (8, 5)
    assert sorted(made.flatten().tolist()) == list(range(40))
    assert torch.equal(made, grouping.balanced_groups(features, 8, generator(seed)))


def test_groups_of_equal_neurons():
    assert sorted(grouping.balanced_groups(torch.ones(12, 4), 3, generator()).flatten().tolist()) == list(range(12))


def outputs(tokens=300, n_experts=4, hidden=12):
    """Hidden states and group outputs [T, E, H] whose size is the exponential of a linear map of the state."""
    x = torch.randn(tokens, hidden, generator=generator())
    rows = torch.randn(n_experts, hidden, generator=generator(1))
    size = (x @ rows.T).exp().clamp(0.02, 50)
    directions = torch.nn.functional.normalize(torch.randn(tokens, n_experts, hidden, generator=generator(2)), dim=2)
    return x, directions * size[:, :, None]


def test_output_error_by_its_definition():
    _, f = outputs()
    index = torch.randint(4, (300, 1), generator=generator(3))
    index = torch.cat([index, (index + 1) % 4], 1)
    weight = torch.rand(300, 2, generator=generator(4)).softmax(1)
    made = 2 * (weight[:, :, None] * f.gather(1, index[:, :, None].expand(-1, -1, 12))).sum(1)
    whole = f.sum(1)
    expected = ((whole - made).square().sum(1) / whole.square().sum(1)).mean()
    assert routers.output_error(f @ f.transpose(1, 2), index, weight) == pytest.approx(float(expected), rel=1e-4)


def test_inner_products_by_their_definition():
    values, down = torch.randn(700, 24, generator=generator()), torch.randn(8, 24, generator=generator(1))
    groups = torch.randperm(24, generator=generator(2)).view(3, 8)
    gram = routers.inner_products(values, down, groups)
    parts = torch.stack([values[:, g] @ down[:, g].T for g in groups], 1)
    torch.testing.assert_close(gram, torch.einsum("teh,tfh->tef", parts, parts), atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(gram.sum((1, 2)), (values @ down.T).square().sum(1), atol=1e-2, rtol=1e-4)


def test_fitted_router_chooses_the_largest_outputs():
    x, f = outputs()
    gram = f @ f.transpose(1, 2)
    router = routers.fit_split_router(x[:200], gram[:200], 1)
    chosen, _ = routers.choose(router, x[200:], 1)
    largest = gram[200:].diagonal(dim1=1, dim2=2).argmax(1)
    assert (chosen[:, 0] == largest).float().mean() > 0.9
    first = routers.initial_router(4, 12, 0.02, generator())
    held_out = x[200:], gram[200:]
    fitted, before = (routers.output_error(held_out[1], *routers.choose(r, held_out[0], 1)) for r in (router, first))
    assert fitted < before / 2


def test_balancing_spreads_tokens():
    x = torch.randn(500, 16, generator=generator()) + 2  # a common direction, as hidden states have
    first = routers.initial_router(8, 16, 0.02, generator(1))
    fitted = routers.fit_copy_router(first, x, 2, generator(2))
    before, after = (routers.loads(routers.choose(r, x, 2)[0], 8) for r in (first, fitted))
    assert float(before.sum()) == pytest.approx(2)
    assert after.max() < before.max()
    assert after.min() > before.min()


def write(path, texts):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def test_text_is_held_out_by_document(tmp_path):
    rows = [
        f"{i:03d} " * 30 for i in range(60)
    ]  # 120 tokens a document and an end of text; no word is in two documents
    config = UpcycleConfig(tokens=1200, held_out=600, length=40)
    text = read_text([write(tmp_path / "a.jsonl", rows)], tiny_tokenizer(), config)
    assert text.fitted.shape == (30, 40)
    assert text.held_out.shape == (15, 40)
    words = [
        set(tiny_tokenizer().decode(part.flatten()).replace("<eos>", " ").split())
        for part in (text.fitted, text.held_out)
    ]
    whole = [{word for word in part if len(word) == 3} for part in words]
    assert whole[0]
    assert whole[1]
    assert not whole[0] & whole[1]
    again = read_text([tmp_path / "a.jsonl"], tiny_tokenizer(), config)
    assert torch.equal(again.fitted, text.fitted)
    other = read_text(
        [tmp_path / "a.jsonl"], tiny_tokenizer(), UpcycleConfig(tokens=1200, held_out=600, length=40, seed=1)
    )
    assert not torch.equal(other.fitted, text.fitted)


def test_short_text_keeps_the_held_out_share(tmp_path):
    (tmp_path / "a.txt").write_text("".join(f"line {i} of a text that is not long\n" for i in range(300)))
    text = read_text([tmp_path / "a.txt"], tiny_tokenizer(), UpcycleConfig(tokens=100_000, held_out=50_000, length=32))
    share = len(text.held_out) / (len(text.fitted) + len(text.held_out))
    assert 0.3 < share < 0.6


def test_questions_are_read_as_prompts(tmp_path):
    rows = [{"question": f"What is {i}?", "choices": ["a", "b"], "answer": 0} for i in range(40)]
    file = tmp_path / "q.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = read_text([file], tiny_tokenizer(), UpcycleConfig(tokens=400, held_out=200, length=50))
    assert "Choices:\nA. a\nB. b\nAnswer:<eos>Question:" in tiny_tokenizer().decode(text.fitted.flatten())


@pytest.mark.parametrize(
    ("content", "message"),
    [("too short", "at least one window of 40 tokens"), ("one line only " * 100, "to fit to: expected at least one")],
)
def test_too_little_text(content, message, tmp_path):
    (tmp_path / "a.txt").write_text(content)
    with pytest.raises(TaskError, match=message):
        read_text([tmp_path / "a.txt"], tiny_tokenizer(), UpcycleConfig(length=40))


def test_no_text(tmp_path):
    with pytest.raises(TaskError, match="at least one file"):
        read_text([], tiny_tokenizer(), UpcycleConfig())
    with pytest.raises(TaskError, match="No such file"):
        read_text([tmp_path / "none.txt"], tiny_tokenizer(), UpcycleConfig())
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1"))
    with pytest.raises(TaskError, match="UTF-8"):
        read_text([tmp_path / "latin.txt"], tiny_tokenizer(), UpcycleConfig())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 9}, "top_k: expected at most the 8 experts, got 9"),
        ({"experts": 1}, "experts: expected 2 or more, got 1"),
        ({"method": "merge"}, "method: expected 'split' or 'copy', got 'merge'"),
        ({"groups": "k-means"}, "groups: expected 'coactivation', 'weights' or 'random'"),
        ({"noise": 0.1}, "noise: expected 0 with a split"),
        ({"method": "copy", "groups": "random"}, "groups: expected coactivation, the default, with a copy"),
        ({"method": "copy", "noise": -1}, "0 or more"),
        ({"method": "copy", "noise": float("nan")}, "a finite number"),
        ({"window": 3}, "window: expected a known key"),
        ({"seed": True}, "seed: expected a whole number"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(RecipeError, match=message):
        UpcycleConfig.of(options)
