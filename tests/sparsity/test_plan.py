"""Plans: each figure of a configuration against the formulas, choices against brute force, folders, errors."""

import json
import math
import shutil
from pathlib import Path

import pytest
from listeners import Recorder
from tiny import tiny_model

import turnout
from turnout import ops
from turnout.errors import ModelError, RecipeError, RunError
from turnout.quantities import parse_count, show_count
from turnout.sparsity import Plan, PlanConfig
from turnout.sparsity.laws import joint_moe_loss
from turnout.sparsity.shapes import known_size, published, shape_size

BUDGETS = [
    {"active": "170M", "tokens": "125B"},
    {"active": "1.3B", "tokens": "300B", "memory": "40GB"},
    {"active": "3B", "tokens": "125B", "memory": "640GB", "use": "training"},
    {"active": "1.3B", "tokens": "5T", "memory": "80GB"},
    {"active": "400K", "tokens": "10M", "width": "48,64,96", "layers": 2, "experts": "2,4,8,16,32,64", "top_k": 2}
    | {"vocab": 512, "tolerance": 0.3},
]


@pytest.fixture(scope="module", params=BUDGETS, ids=lambda b: f"{b['active']}-{b['tokens']}")
def budget(request):
    return request.param, turnout.plan(**request.param)


def test_every_figure_follows_from_the_formulas(budget):
    options, plan = budget
    config = PlanConfig.of(options)
    for one in plan.configurations:
        shape = {name: one[name] for name in ("width", "layers", "experts", "top_k", "vocab")}
        counted = ops.parameters(**shape)
        assert one["parameters"]["total"] == counted.total
        assert one["parameters"]["active_non_embedding"] == counted.active_non_embedding
        assert abs(counted.active - config.active) <= config.tolerance * config.active
        assert one["top_k"] <= one["experts"]
        assert one["sparsity"] == 1 - one["top_k"] / one["experts"]
        assert one["tpp"] == config.tokens / counted.total
        assert one["flops"]["training_6n"] == 6 * counted.active
        assert one["flops"]["training_total"] == one["flops"]["training"] * config.tokens
        assert one["memory"]["weights"] == 2 * counted.total
        assert one["memory"]["training"] > 16 * counted.total
        assert one["fits"] is (None if config.memory is None else True)
        joint = joint_moe_loss(active=counted.active, tokens=config.tokens, experts=one["experts"] / one["top_k"])
        assert [law["loss"] for law in one["laws"] if law["law"] == "joint MoE"] == [joint]
    names = [one["name"] for one in plan.configurations]
    assert len(set(names)) == len(names)


def test_reasoning_gets_the_largest_k_near_tpp_20(budget):
    options, plan = budget
    (choice,) = turnout.plan(**options, goal="reason").recommendation["choices"]
    by_name = {one["name"]: one for one in plan.configurations}
    best = by_name[choice["name"]]
    ratio = {name: max(one["tpp"] / 20, 20 / one["tpp"]) for name, one in by_name.items()}
    limit = max(math.sqrt(2), 1.1 * min(ratio.values())) * (1 + 1e-12)
    near = [name for name in by_name if ratio[name] <= limit]
    assert best["name"] in near
    assert best["top_k"] == max(by_name[name]["top_k"] for name in near)


def test_memorizing_gets_the_most_parameters(budget):
    options, plan = budget
    (choice,) = turnout.plan(**options, goal="memorize").recommendation["choices"]
    totals = {one["name"]: one["parameters"]["total"] for one in plan.configurations}
    assert totals[choice["name"]] == max(totals.values())


def test_both_goals_give_two_choices_and_their_conflict(budget):
    _, plan = budget
    reason, memorize = plan.recommendation["choices"]
    assert [reason["goal"], memorize["goal"]] == ["reason", "memorize"]
    same = reason["name"] == memorize["name"]
    assert plan.recommendation["conflict"].startswith("No conflict" if same else "The goals need different models")
    assert [one["name"] for one in plan.configurations[: 1 if same else 2]] == list(
        dict.fromkeys((reason["name"], memorize["name"]))
    )
    assert reason["uncertainty"]
    assert memorize["uncertainty"]
    assert any("No law predicts reasoning" in line for line in plan.recommendation["uncertainty"])


def test_curves_follow_the_laws_at_the_recommended_shape(budget):
    _, plan = budget
    (curve,) = plan.to_dict()["curves"]
    first = plan.configurations[0]
    (own,) = [point for point in curve["points"] if point["experts"] == first["experts"]]
    assert own["total"] == first["parameters"]["total"]
    assert own["losses"] == {law["law"]: law["loss"] for law in first["laws"]}
    assert min(point["experts"] for point in curve["points"]) == first["top_k"]


def test_the_papers_smallest_family():
    """All of its d512, k2 models are legal at their own budget, with the ids' sizes."""
    plan = turnout.plan("170M", "125B", width=512, top_k=2)
    by_experts = {one["experts"]: one for one in plan.configurations}
    assert sorted(by_experts) == [8, 16, 32, 64, 128, 256]
    assert show_count(by_experts[8]["parameters"]["total"]) == "320M"
    assert by_experts[8]["tpp"] == pytest.approx(390.43, abs=0.01)


def test_configurations_above_the_memory_are_left_out():
    free = turnout.plan("1.3B", "300B", "memorize")
    tight = turnout.plan("1.3B", "300B", "memorize", memory="40GB")
    assert len(free.configurations) == len(tight.configurations) + len(tight.to_dict()["left_out"])
    assert all(one["memory"]["inference"] > 40e9 for one in tight.to_dict()["left_out"])
    assert tight.configurations[0]["parameters"]["total"] < free.configurations[0]["parameters"]["total"]
    training = turnout.plan("1.3B", "300B", "memorize", memory="100GB", use="training")
    assert all(one["memory"]["training"] <= 100e9 for one in training.configurations)


def test_a_tpp_far_from_20_is_explained():
    reasons = {
        "more": turnout.plan("1.3B", "5T", "reason").recommendation["choices"][0]["reason"],
        "fewer": turnout.plan("1.3B", "10B", "reason").recommendation["choices"][0]["reason"],
    }
    assert "needs 705 experts" in reasons["more"]
    assert "of the listed numbers (at most 256) 256 is the nearest" in reasons["more"]
    assert "more tokens would help" in reasons["fewer"]


def test_only_the_nearest_width_is_kept_unless_widths_are_given():
    free = turnout.plan("5B", "1T")
    assert len({(one["top_k"], one["experts"]) for one in free.configurations}) == len(free.configurations)
    given = turnout.plan("5B", "1T", width=list(range(3072, 4096, 128)), top_k=2, experts=64)
    assert len(given.configurations) > 1


def test_stored_and_read_again(tmp_path):
    recorder = Recorder()
    first = turnout.plan("170M", "125B", out=tmp_path / "plan", listener=recorder)
    again = turnout.plan("170M", "125B", out=tmp_path / "plan", listener=recorder)
    assert (first.already_complete, again.already_complete) == (False, True)
    assert first.to_dict() == again.to_dict() == Plan.load(tmp_path / "plan").to_dict()
    assert first.to_dict() == turnout.plan("170M", "125B").to_dict()
    assert json.loads((tmp_path / "plan" / "plan.json").read_text()) == first.to_dict()
    assert len(recorder.notes) == 1
    assert "nothing is computed again" in recorder.notes[0]
    assert repr(first).startswith("Plan for 170M active parameters and 125B tokens\n")
    frame = first.frame()
    assert frame.height == len(first.configurations)
    assert {"name", "total", "active", "tpp", "flops_training", "memory_inference", "abnar_loss"} <= set(frame.columns)
    assert (tmp_path / "plan" / "report.html").exists()
    with pytest.raises(RunError, match="tokens"):
        turnout.plan("170M", "126B", out=tmp_path / "plan")


def test_memorise_is_accepted(tmp_path):
    with pytest.warns(DeprecationWarning, match='deprecated goal "memorise"; use "memorize"'):
        former = turnout.plan("170M", "125B", "memorise")
    assert former.to_dict() == turnout.plan("170M", "125B", "memorize").to_dict()
    assert PlanConfig.of(active="170M", tokens="125B", goal="memorise").goal == "memorize"


def test_a_plan_of_version_0_1_0_is_recognized(tmp_path):
    """It names its goal memorise, in its inputs too."""
    stored = shutil.copytree(Path(__file__).parents[1] / "fixtures" / "runs-0.1.0" / "plan", tmp_path / "plan")
    assert Plan.load(stored).recommendation["choices"][0]["goal"] == "memorise"
    again = turnout.plan("1.3B", "300B", "memorize", memory="80GB", out=stored)
    assert again.already_complete
    assert "recall" in (stored / "report.html").read_text()
    (choice,) = turnout.plan("1.3B", "300B", "memorize", memory="80GB").recommendation["choices"]
    assert again.recommendation["choices"][0]["name"] == choice["name"]
    with pytest.raises(RunError, match="goal"):
        turnout.plan("1.3B", "300B", "reason", memory="80GB", out=stored)


def test_an_unknown_setting_is_named():
    with pytest.raises(RecipeError, match=r"^colour: expected a known key"):
        PlanConfig.of(active="1.3B", tokens="5T", colour=1)


def test_same_bytes_twice(tmp_path):
    for name in ("one", "two"):
        turnout.plan("170M", "125B", out=tmp_path / name)
    for file in ("plan.json", "tables/configurations.parquet", "report.html"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.parametrize("model", published(), ids=lambda model: model["name"])
def test_published_models(model):
    """Sizes as their makers state them; DeepSeek does not count the input embedding's look-up as active."""
    size = known_size(model["name"].upper())
    active = size.parameters.active - size.vocab * size.width * (model["name"] == "DeepSeek-V2-Lite")
    for number, name in ((size.parameters.total, "total"), (active, "active")):
        stated = model["published"][name]
        digits = len(stated.rstrip("B").partition(".")[2])
        assert round(number / 1e9, digits) == pytest.approx(parse_count(name, stated) / 1e9, abs=0.11)
    assert model["source"]


def test_cache_sizes_of_published_models():
    """Grouped queries (Qwen3: 4 key heads of 128) and latent attention (DeepSeek-V2: 512 + 64 numbers a layer)."""
    per_token = {
        name: turnout.plan(of=name, context=1).configurations[0]["memory"]["cache"]
        for name in ("qwen3-30b-a3b", "DeepSeek-V2-Lite", "olmoe")
    }
    assert per_token == {
        "qwen3-30b-a3b": 48 * 2 * 4 * 128 * 2,
        "DeepSeek-V2-Lite": 27 * (512 + 64) * 2,
        "olmoe": 16 * 2 * 2048 * 2,
    }


@pytest.mark.parametrize(
    "name", ["llm-jp/optimal-sparsity-math-d512-E8-k2-320M-A170M", "optimal-sparsity-code-d512-E8-k2"]
)
def test_the_papers_checkpoints_by_id(name):
    plan = turnout.plan(of=name, tokens="125B")
    (one,) = plan.configurations
    assert (
        one["parameters"] == turnout.plan("170M", "125B", width=512, top_k=2, experts=8).configurations[0]["parameters"]
    )
    assert one["name"] == name
    assert plan.recommendation is None


def test_closed_form_and_count_agree(tmp_path):
    """The size of a Mixtral of the paper's shape on disk equals the closed form, to the byte."""
    changes = {"hidden_size": 32, "intermediate_size": 64, "num_key_value_heads": 4, "tie_word_embeddings": False}
    folder = tiny_model("mixtral", tmp_path / "model", **changes)
    (counted,) = turnout.plan(of=folder, tokens="1M", context=64).configurations
    from turnout.sparsity.costs import configuration

    vocab = counted["vocab"]
    closed = configuration(shape_size(width=32, layers=3, experts=4, top_k=2, vocab=vocab, name="model"), 1_000_000, 64)
    assert counted == closed | {"fits": None}


def test_a_model_without_tokens(tmp_path):
    folder = tiny_model("deepseek_v2", tmp_path / "model")
    (one,) = turnout.plan(of=folder).configurations
    assert one["name"] == "model"
    assert (one["tpp"], one["laws"], one["flops"]["training_total"]) == (None, [], None)
    assert (one["layers"], one["moe_layers"], one["shared"]) == (3, 2, 2)
    assert turnout.plan(of=folder / "config.json", out=tmp_path / "plan").configurations[0] == one
    assert turnout.plan(of=folder).frame().height == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens": "5T"}, r"^active: expected a value such as 1.3B, got none"),
        ({"active": "1.3B"}, r"^tokens: expected a value such as 5T"),
        ({"active": "1.3X", "tokens": "5T"}, r"^active: expected a number above 0"),
        ({"active": "-1B", "tokens": "5T"}, r"^active: expected a number above 0"),
        (
            {"active": "1.3B", "tokens": "5T", "goal": "win"},
            r"^goal: expected 'memorize', 'reason' or 'both', got",
        ),
        ({"active": "1.3B", "tokens": "5T", "top_k": 16, "experts": 8}, r"^top_k: .* got 16 chosen of 8"),
        ({"active": "1.3B", "tokens": "5T", "width": "a,b"}, r"^width: expected a number"),
        ({"active": "1.3B", "tokens": "5T", "width": ""}, r"^width: expected a number"),
        ({"active": "1.3B", "tokens": "5T", "tolerance": 2}, r"^tolerance: expected a number below 1"),
        ({"active": "1.3B", "tokens": "5T", "memory": "lots"}, r"^memory: expected an amount"),
        ({"active": "1.3B", "tokens": "5T", "memory": "1GB"}, r"^memory: expected a configuration that fits into 1 GB"),
        ({"active": "1.3B", "tokens": "5T", "width": 128}, r"^grid: expected a shape within 10% of 1.3B active"),
        ({"active": "1K", "tokens": "5T"}, r"^grid: .* as the nearest; give other --width"),
        ({"of": "OLMoE", "active": "1.3B"}, r"^active: expected tokens or context beside a model"),
        ({"of": "OLMoE", "tokens": "many"}, r"^tokens: expected a number"),
        ({"of": "llm-jp/optimal-sparsity-math-d512-E8-k16-x"}, r"optimal-sparsity.*k at most E"),
    ],
)
def test_errors_are_one_line(options, message):
    with pytest.raises(RecipeError, match=message) as raised:
        turnout.plan(**options)
    assert "\n" not in str(raised.value)


def test_models_that_cannot_be_sized(tmp_path):
    with pytest.raises(ModelError, match="a folder, or a hub id"):
        turnout.plan(of="no such model")
    with pytest.raises(ModelError, match="without fused experts"):
        turnout.plan(of=tiny_model("llama", tmp_path / "dense"))
