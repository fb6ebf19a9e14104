"""Coupling on real tokens: plain loops, a planted model, batches, scopes, kills."""

import pytest
import torch
from safetensors.numpy import load_file
from tiny import random_model, tiny_tokenizer

from turnout import measure_coupling
from turnout.coupling import pieces
from turnout.coupling.tokens import TokenCounts
from turnout.errors import ModelError
from turnout.models.wrap.anatomy import read
from turnout.models.wrap.gates import gate_matrices
from turnout.tasks import Question, TaskSet

FEW = {"permutations": 199, "resamples": 200}
TEXTS = ["a b", "some more words", "x", "1 + 1 = 2, is it not?", "abc abc abc", "the last one"]


def texts(n=len(TEXTS)):
    questions = [Question(str(i), "s", "d", TEXTS[i], (), None) for i in range(n)]
    return TaskSet.of("texts", questions, domain_map="file", order=("d",))


def by_hand(moe, scope):
    """Each layer's agree, first and correlation by running one text at a time and looping over its tokens."""
    outputs, sums = {}, {layer.layer: [0.0, 0.0, 0.0, 0] for layer in moe.layers}
    hooks = []
    for layer in moe.layers:
        hooks.append(
            layer.router.register_forward_hook(lambda m, a, out, k=layer.layer: outputs.update({(k, "r"): out}))
        )
        hooks.append(
            layer.experts.register_forward_pre_hook(lambda m, a, k=layer.layer: outputs.update({(k, "x"): a[0]}))
        )
    for text in TEXTS:
        ids = moe.tokenizer(text)["input_ids"]
        with torch.no_grad():
            moe.model(torch.tensor([ids]))
        for layer in moe.layers:
            logits, weights, chosen = outputs[layer.layer, "r"]
            x = outputs[layer.layer, "x"].reshape(-1, 32).double()
            gates = gate_matrices(layer).detach().double()
            for t in range(len(ids)) if scope == "all" else [len(ids) - 1]:
                norms = torch.stack([(x[t] @ w).norm() for w in gates])
                largest = int(norms.argmax())
                of = sums[layer.layer]
                of[0] += largest in chosen[t].tolist()
                of[1] += largest == int(chosen[t][weights[t].argmax()])
                of[2] += float(torch.corrcoef(torch.stack([ranks(logits[t].double()), ranks(norms)]))[0, 1])
                of[3] += 1
    for hook in hooks:
        hook.remove()
    return {number: [total / of[3] for total in of[:3]] + [of[3]] for number, of in sums.items()}


def ranks(values):
    return values.argsort().argsort().double()


def tokens_of(result):
    return {layer["layer"]: layer["tokens"] for layer in result.layers}


@pytest.mark.parametrize("family", ["olmoe", "deepseek_v3", "gpt_oss"])
@pytest.mark.parametrize("scope", ["all", "last"])
def test_plain_loops(family, scope):
    moe = read(random_model(family), tiny_tokenizer())
    tokens = tokens_of(measure_coupling(moe, texts(), scope=scope, token_budget=40, **FEW))
    for number, (agree, first, correlation, count) in by_hand(moe, scope).items():
        raw = tokens[number]["raw"]
        assert tokens[number]["tokens"] == count
        assert tokens[number]["samples"] == len(TEXTS)
        assert raw["agree"]["value"] == pytest.approx(agree)
        assert raw["first"]["value"] == pytest.approx(first)
        assert raw["correlation"]["value"] == pytest.approx(correlation, abs=2e-3)
        assert sum(raw["by_choice"]) == pytest.approx(agree)
        assert raw["by_choice"][0] == pytest.approx(first)
        top_k, n = len(raw["by_choice"]), moe.layers[0].n_experts
        assert raw["agree"]["expected"] == pytest.approx(top_k / n)
        assert raw["first"]["expected"] == pytest.approx(1 / n)
        assert raw["agree"]["interval"][0] <= agree <= raw["agree"]["interval"][1]


@pytest.fixture(scope="module")
def coupled():
    """A model whose expert j responds to x with |x · R_j| times a constant: the largest logit in absolute value."""
    model = random_model("olmoe")
    with torch.no_grad():
        for layer in model.model.layers:
            gate = layer.mlp.experts.gate_up_proj
            gate[:, :16] = layer.mlp.gate.weight[:, None, :] * torch.linspace(0.5, 1, 16)[None, :, None]
    return read(model, tiny_tokenizer())


def logits_of(moe):
    """Each layer's router logits [T, N] over all texts, one text at a time."""
    outputs = {layer.layer: [] for layer in moe.layers}
    hooks = [
        layer.router.register_forward_hook(lambda m, a, out, k=layer.layer: outputs[k].append(out[0].detach()))
        for layer in moe.layers
    ]
    for text in TEXTS:
        with torch.no_grad():
            moe.model(torch.tensor([moe.tokenizer(text)["input_ids"]]))
    for hook in hooks:
        hook.remove()
    return {number: torch.cat(parts) for number, parts in outputs.items()}


def test_a_planted_model(coupled):
    """The logits determine the responses: ‖x W_g^j‖ = |x · R_j|·c, so the largest response has the largest |logit|."""
    result, logits = measure_coupling(coupled, texts(), **FEW), logits_of(coupled)
    for layer in result.layers:
        of = logits[layer["layer"]]
        largest, chosen = of.abs().argmax(1), of.topk(2).indices
        raw = layer["tokens"]["raw"]
        assert raw["first"]["value"] == pytest.approx(float((largest == chosen[:, 0]).double().mean()))
        assert raw["agree"]["value"] == pytest.approx(float((largest[:, None] == chosen).any(1).double().mean()))
        load = torch.bincount(chosen.flatten(), minlength=8) / len(of)
        share = torch.bincount(largest, minlength=8) / len(of)
        assert raw["agree"]["by_load"] == pytest.approx(float(load @ share))
        assert layer["raw"]["rows"]["value"] >= 0.5  # M[i, j] = |R_i · R_j| · c: a row is mostly closest to itself
        assert layer["scale_free"]["rows"]["value"] == 1  # and by cosine always
        assert layer["scale_free"]["rows"]["p"] == pytest.approx(1 / 200)


def test_figures_do_not_depend_on_batches(coupled):
    one, many = (measure_coupling(coupled, texts(), token_budget=budget, **FEW).layers for budget in (1, 1000))
    for a, b in zip(one, many, strict=True):
        for scale in ("raw", "scale_free"):
            for name in ("agree", "first", "correlation"):
                assert a["tokens"][scale][name]["value"] == pytest.approx(b["tokens"][scale][name]["value"], abs=1e-6)
                assert a["tokens"][scale][name]["interval"] == pytest.approx(
                    b["tokens"][scale][name]["interval"], abs=1e-6
                )


def test_the_model_is_not_changed(coupled):
    model = coupled.model.train()
    measure_coupling(coupled, texts(2), **FEW)
    assert model.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    model.eval()


def test_a_killed_run_resumes_to_the_same_bytes(coupled, tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "BATCHES_PER_PIECE", 2)
    options = {**FEW, "token_budget": 1}
    whole = measure_coupling(coupled, texts(), tmp_path / "whole", **options)
    calls, real = [], pieces.count_tokens

    def killed(moe, prompts, scope):
        calls.append(len(prompts))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(moe, prompts, scope)

    monkeypatch.setattr(pieces, "count_tokens", killed)
    with pytest.raises(KeyboardInterrupt):
        measure_coupling(coupled, texts(), tmp_path / "killed", **options)
    (piece,) = (tmp_path / "killed").glob("piece-tokens-*")
    assert "digest" in load_file(piece)
    measure_coupling(coupled, texts(), tmp_path / "killed", **options)
    assert len(calls) == 8  # two of six batches were kept
    for name in ("coupling.json", "tables/coupling_matrix.parquet"):
        assert (tmp_path / "killed" / name).read_bytes() == (whole.path / name).read_bytes()
    assert not [*(tmp_path / "killed").glob("piece-*")]


def test_intervals_equal_a_plain_bootstrap():
    """Against a bootstrap that draws samples in a plain loop."""
    rng = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 9, (60,), generator=rng).double().numpy()
    agree = tokens * torch.rand(60, generator=rng).double().numpy()
    names = {f"0/{s}/{m}": agree for s in ("raw", "scale_free") for m in ("agree", "first", "correlation")}
    more = {f"0/{s}/{m}": tokens[:4] for s in ("raw", "scale_free") for m in ("loudest", "by_choice")}
    counts = {"0/tokens": tokens, "0/chosen": tokens[:4], "0/chosen_first": tokens[:4], **names, **more}
    low, high = TokenCounts.of([counts], range(60)).figures(4000, seed=1)[0]["raw"]["agree"]["interval"]
    draws = [torch.randint(60, (60,), generator=rng).numpy() for _ in range(4000)]
    values = torch.tensor([agree[d].sum() / tokens[d].sum() for d in draws])
    expected = values.quantile(torch.tensor([0.025, 0.975], dtype=values.dtype)).tolist()
    assert [low, high] == pytest.approx(expected, abs=0.01)


def test_a_missing_tokenizer_and_nan_are_refused():
    with pytest.raises(ModelError, match="expected a tokenizer beside the model, got none"):
        measure_coupling(random_model("olmoe"), texts(), **FEW)
    moe = read(random_model("olmoe"), tiny_tokenizer())
    with torch.no_grad():
        moe.model.model.embed_tokens.weight.fill_(torch.nan)
    with pytest.raises(ModelError, match="layer 0: expected finite logits and norms, got NaN or infinity"):
        measure_coupling(moe, texts(), **FEW)
