"""Masking end to end: planted experts, controls, resumed runs, refusals."""

import json
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from auditing.tiny_tasks import DOMAINS, task_set
from listeners import Recorder
from sklearn.isotonic import IsotonicRegression
from tiny import random_model, tiny_tokenizer

from turnout import audit, mask
from turnout.auditing.evidence.bootstrap import Clusters
from turnout.errors import ModelError, RecipeError, RunError
from turnout.masking import MaskConfig, Masking, mask_plan
from turnout.masking.effects import Measure, effects, isotonic_at
from turnout.masking.scores import parse_letter
from turnout.masking.sets import MaskLayer, MaskSet, Target, targets
from turnout.masking.source import listed_choices
from turnout.models.change.intervene import mask as masked
from turnout.models.forward.capture import capture
from turnout.models.wrap.anatomy import read
from turnout.runs import RunFolder, verify
from turnout.tasks.question import Question, TaskSet

QUICK = {"controls": 6, "seed": 0}
SAID = []


def planted(expert=5, carries=True):
    """Model whose `expert` gets every token of the last layer and, with `carries`, alone makes the answer "C"."""
    model = random_model("gpt_oss", num_hidden_layers=2, num_local_experts=8, tie_word_embeddings=False)
    last = model.model.layers[1].mlp
    letter = tiny_tokenizer().convert_tokens_to_ids("C")
    with torch.no_grad():
        last.router.weight.mul_(0.2)
        last.router.bias.zero_()
        last.router.bias[expert] = 1.5
        last.experts.down_proj_bias.zero_()
        if carries:
            last.experts.down_proj_bias[expert] = 40 * model.lm_head.weight[letter]
    return read(model, tiny_tokenizer(), "planted")


def always_c(n=24):
    asked = task_set(n, longest=4)
    return TaskSet.of("always C", [Question(**{**q.__dict__, "answer": 2}) for q in asked.questions])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A planted model, its audit, and the masking of each layer and of all."""
    folder = tmp_path_factory.mktemp("planted")
    moe = planted()
    audit(moe, always_c(), folder / "run")
    return (
        moe,
        folder / "run",
        mask(folder / "run", moe, folder / "mask", layers="each", listener=Recorder(SAID), **QUICK),
    )


def sets_of(result, layer):
    target = next(t for t in result.targets if t["layer"] == layer)
    return {found["set"]: found for found in target["sets"]}


def test_masking_the_expert_of_the_answer_lowers_accuracy_and_controls_do_not(run):
    _, _, result = run
    committee = sets_of(result, 1)["committee"]
    assert committee["experts"] == [{"layer": 1, "expert": 5}]
    assert result.baseline["accuracy"] > 0.9
    accuracy, logprob = committee["measures"]["accuracy"], committee["measures"]["logprob"]
    assert accuracy["drop"] > 0.4
    assert accuracy["random"]["mean_drop"] < 0.1
    assert accuracy["random"]["p"] == 1 / 7
    assert accuracy["effect"] > 0.3
    assert accuracy["effect_interval"][0] > 0.1
    assert logprob["effect_interval"][0] > 0
    assert accuracy["value"] == pytest.approx(result.baseline["accuracy"] - accuracy["drop"])


def test_masking_an_expert_of_high_mass_without_the_answer_has_no_effect(tmp_path):
    moe = planted(carries=False)
    audit(moe, always_c(), tmp_path / "run")
    committee = sets_of(mask(tmp_path / "run", moe, layers=(1,), controls=20, listener=Recorder(SAID)), 1)["committee"]
    assert committee["experts"] == [{"layer": 1, "expert": 5}]
    assert committee["measures"]["accuracy"]["effect_interval"][0] <= 0.05
    assert abs(committee["measures"]["accuracy"]["effect"]) < 0.3


def test_figures_are_those_of_a_plain_loop(run):
    """Accuracy and log-probability of each masked set, computed again in one batch without a cached prefix."""
    moe, folder, result = run
    trace = RunFolder.read(folder).trace()
    tokens, offsets = trace.tokens()
    prompts = [tokens[a:b].tolist() for a, b in pairwise(offsets)]
    letters = [tiny_tokenizer().convert_tokens_to_ids(list("ABCD"))] * len(prompts)
    table = result.table("masking")
    for row in [*table.filter(layer="1").rows(named=True)[:6], *table.filter(layer="all").rows(named=True)[:6]]:
        experts = {}
        for x in row["experts"]:
            experts.setdefault(x["layer"], []).append(x["expert"])
        with masked(moe, experts):
            said = np.array(capture(moe, prompts, letters=letters).choice_logprobs)
        assert row["accuracy"] == pytest.approx((said.argmax(1) == 2).mean())
        assert row["logprob"] == pytest.approx(said[:, 2].mean(), abs=1e-4)
    scores_SE = torch.from_numpy(trace.scores(1, "all")).double()
    domain_S = np.array(trace.samples()["domain"].to_list())
    share_E = np.mean([scores_SE[domain_S == d].mean(0).numpy() for d in DOMAINS], axis=0)
    row = table.filter(layer="1", set="committee").rows(named=True)[0]
    assert row["removed_mass"] == pytest.approx(share_E[5] / share_E.sum())


def test_a_stored_masking_is_sound_and_not_recomputed(run, tmp_path):
    moe, folder, result = run
    assert verify(result.path) == []
    again = []
    same = mask(folder, moe, result.path, layers="each", listener=Recorder(again), **QUICK)
    assert again == [f"{result.path}: this run is complete; nothing is computed again"]
    assert same.to_dict() == result.to_dict() == json.loads((result.path / "masking.json").read_text())
    assert Masking.load(result.path).frame().equals(result.frame())
    assert len(result.frame()) == result.table("effects").height > 0
    with pytest.raises(RunError, match=r"config\.controls"):
        mask(folder, moe, result.path, layers="each", controls=7)
    other = mask(folder, moe, tmp_path / "other", layers=[1], listener=Recorder(SAID), **QUICK)
    assert sets_of(other, 1) == sets_of(result, 1)  # a layer's controls do not depend on the other targets
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in moe.model.modules())
    assert all("forward" not in m.__dict__ for m in moe.model.modules())


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path):
    script = Path(__file__).with_name("masking_killed.py")
    ran = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["same"]
    assert max(found["left"]) > 0  # it was killed with pieces behind it
    assert found["said"] == ""  # no piece was taken for damaged


@pytest.mark.parametrize("how", ["damaged", "foreign"])
def test_a_damaged_or_foreign_piece_is_computed_again(run, tmp_path, how):
    moe, folder, result = run
    shutil.copytree(result.path, tmp_path / "mask")
    (tmp_path / "mask" / "manifest.json").unlink()
    piece = tmp_path / "mask" / "tables" / "scores_0_00000.parquet"
    if how == "foreign":
        shutil.copy(piece.with_name("scores_1_00000.parquet"), piece)
    else:
        data = bytearray(piece.read_bytes())
        data[len(data) // 3] ^= 0xFF
        piece.write_bytes(data)
    said = []
    mask(folder, moe, tmp_path / "mask", layers="each", listener=Recorder(said), **QUICK)
    assert any("scores_0_00000" in line and "computed again" in line for line in said)
    assert (tmp_path / "mask/masking.json").read_bytes() == (result.path / "masking.json").read_bytes()


def test_texts_are_scored_in_bits_and_answers_can_be_written(tmp_path):
    moe = planted()
    texts = [Question(f"t{i}", "prose", "prose", "it rained all day " * (i + 1)) for i in range(3)]
    audit(moe, TaskSet.of("mixed", [*always_c(6).questions, *texts]), tmp_path / "run")
    result = mask(tmp_path / "run", moe, layers=(1,), controls=2, generate=1, listener=Recorder(SAID))
    measures = sets_of(result, 1)["committee"]["measures"]
    assert set(measures) == {"accuracy", "logprob", "generated", "bits_per_byte"}
    ids = [tiny_tokenizer()(t.text)["input_ids"] for t in texts]
    nats = 0.0
    with torch.no_grad():
        for row in ids:
            logprob = moe.model(input_ids=torch.tensor([row]), use_cache=False).logits[0].log_softmax(-1)
            nats -= logprob[range(len(row) - 1), row[1:]].sum().item()
    assert result.baseline["bits_per_byte"] == pytest.approx(
        nats / np.log(2) / sum(len(row) - 1 for row in ids), rel=1e-4
    )
    written = result.baseline["generated"] + result.baseline["no_answer"]
    assert 0 <= written <= 1
    assert result.baseline["generated"] > 0.9  # it writes "C" too
    assert measures["generated"]["drop"] > 0.3


def test_refusals(run, tmp_path):
    moe, folder, _ = run
    with pytest.raises(ModelError, match="model id is a folder or a hub id, got planted; name the audited"):
        mask(folder)
    with pytest.raises(ModelError, match="the audited weights"):
        mask(folder, planted(carries=False))
    for options, words in (
        ({"layers": (7,)}, r"MoE layers of \[0, 1\], got 7"),
        ({"layers": "some"}, "layers: expected all, each, or layer numbers"),
        ({"controls": 0}, "1 or more"),
        ({"which": "best"}, "which: expected 'committee' or 'core'"),
    ):
        with pytest.raises(RecipeError, match=words):
            mask(folder, moe, **options)
    with pytest.raises(RunError, match="no such folder"):
        mask(tmp_path / "nothing", moe)
    assert not (tmp_path / "nothing").exists()


def test_the_plan_needs_no_model(run):
    _, folder, result = run
    plan = mask_plan(folder, MaskConfig(layers="each", **QUICK))
    assert plan.sets.keys() == {"0", "1", "all"}
    assert sum(plan.sets.values()) == result.table("masking").height
    assert plan.questions == 24
    assert plan.seconds > 0
    assert "24 questions" in str(plan)


def layer_of(n=16, members=(3,), core=(3, 4), k=2, number=0):
    mass_E = np.random.default_rng(number).dirichlet(np.ones(n))
    return MaskLayer(number, k, members, core, False, mass_E, mass_E)


def test_controls():
    layers = [layer_of(), layer_of(members=(1, 2), core=(1, 2), number=1)]
    left = lambda _, gone: 16 - len(set(gone))  # noqa: E731
    for target in targets(layers, "each", "committee", 30, left, 0):
        periphery = {x.layer: set(x.periphery.tolist()) for x in target.layers}
        kinds = [s.kind for s in target.sets]
        assert kinds[0] == "none"
        assert kinds[1] == "committee"
        assert kinds.count("random") == (30 if target.name != 0 else 14)  # 14 experts outside committee and core set
        for s in target.sets[1:]:
            if s.kind not in ("committee", "core"):
                assert all(set(experts) <= periphery[number] for number, experts in s.experts.items())
            if s.kind in ("random", "least"):
                assert {n: len(e) for n, e in s.experts.items()} == {
                    n: len(e) for n, e in target.sets[1].experts.items()
                }
        matched = [target.mass(s) for s in target.sets if s.kind == "matched"]
        assert np.abs(np.array(matched) - target.mass(target.sets[1])).max() < 0.02
    two = targets(layers, "all", "core", 30, left, 0)[0]
    assert [s.kind for s in two.sets[:3]] == ["none", "core", "committee"]


def test_layers_that_cannot_be_masked_are_left_out_with_a_reason():
    layers = [layer_of(), layer_of(members=tuple(range(15)), core=tuple(range(15)), number=1)]
    (target,) = targets(layers, "all", "committee", 5, lambda _, gone: 16 - len(set(gone)), 0)
    assert [x.layer for x in target.layers] == [0]
    assert target.left_out == {1: "masking its committee of 15 would leave 1 experts of K = 2"}


def test_isotonic_regression_equals_scikit_learns():
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, w = np.sort(rng.choice(np.linspace(0, 1, 15), 12)), rng.integers(1, 4, 12).astype(float)
        y = x**2 + rng.normal(0, 0.3, 12)
        known = IsotonicRegression(out_of_bounds="clip").fit(x, y, sample_weight=w)
        for at in (x[0], 0.5, 0.77, x[-1], 1.2):
            if at >= x[0]:
                found = isotonic_at(x, y[None], w[None], at)[0]
                assert found == pytest.approx(known.predict([at])[0], abs=1e-9)
    assert isotonic_at(np.array([0.2]), np.array([[1.0]]), np.ones((1, 1)), 0.1)[0] == pytest.approx(0.5)
    assert np.isnan(isotonic_at(np.zeros(0), np.zeros((1, 0)), np.ones((1, 0)), 0.1)[0])


@pytest.mark.parametrize("extra", [0.0, 0.25])
def test_intervals_cover_a_null_effect_and_detect_a_planted_one(extra):
    """Drops that depend only on the removed mass (curved), plus `extra` for the committee."""
    rng, inside, found = np.random.default_rng(1), 0, 0
    layer = layer_of(32, members=(0, 1), core=(0, 1))
    (target,) = targets([layer], (0,), "committee", 40, lambda _, gone: 32 - len(set(gone)), 0)
    mass_N = np.array([target.mass(s) for s in target.sets])
    n = 300
    clusters = Clusters(np.zeros(n, np.int64), np.arange(n) % 12, 1)
    for trial in range(30):
        lost_N = 0.6 * mass_N**1.5 + rng.normal(0, 0.02, len(mass_N)) * (mass_N > 0)
        lost_N[1] = 0.6 * mass_N[1] ** 1.5 + extra
        right_S = rng.random(n)
        value_SN = (right_S[:, None] < 0.8 - lost_N).astype(float)
        measure = Measure("accuracy", value_SN, np.ones(n), clusters, -1)
        effect = effects(target, measure, trial, n=200)["committee"]
        low, high = effect["effect_interval"]
        inside += low <= extra <= high
        found += low > 0
    assert inside >= 26
    assert found == 30 if extra else found <= 3


def test_answer_letters_in_generated_text():
    said = {" B. Paris": 1, "B": 1, "(C) since": 2, "The answer is D.": 3, "Answer: A": 0, "**B**": 1}
    said |= {"": None, "A cat sat": None, "Because": None, "E": None, "I think so": None, "banana": None}
    assert {text: parse_letter(text, 4) for text in said} == said
    assert parse_letter("E", 5) == 4
    assert (
        listed_choices(
            "Question: x\nChoices:\nA. 1\nB. 2\nAnswer: A\n\nQuestion: y\nChoices:\nA. 3\nB. 4\nC. 5\nAnswer:"
        )
        == 3
    )
    assert MaskSet("random", 0, {1: (2, 3), 4: (5,)}).size == 3
    assert isinstance(Target("all", (), (), {}).left_out, dict)
