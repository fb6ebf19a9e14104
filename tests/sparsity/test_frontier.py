"""Analysis of a sweep: planted shapes are found, too few seeds give no verdict, effects have their planted size."""

import json

import numpy as np
import polars as pl
import pytest
from sparsity.planted import EXPERTS, falling, sweep, swept, trial, u_shaped

from turnout.errors import RecipeError
from turnout.sparsity.analysis.frontier import frontier, frontier_tables

CURVES = {"facts": falling, "chains-1": u_shaped, "chains-2": u_shaped}


@pytest.fixture(scope="module")
def analysis():
    """The frontier of one curve and its dense model."""
    return frontier(sweep(swept(CURVES), swept(CURVES, experts=[1])))


def verdicts(analysis, at=0):
    return {(one["task"], one["measure"]): one for one in analysis["curves"][at]["verdicts"]}


def effects(analysis, effect, task="facts", measure="loss"):
    key = (effect, task, measure)
    return [one for one in analysis["effects"] if (one["effect"], one["task"], one["measure"]) == key]


def test_planted_shapes_are_found(analysis):
    by_name = verdicts(analysis)
    for measure in ("loss", "accuracy"):
        assert by_name["facts", measure]["verdict"] == "monotone"
        assert by_name["facts", measure]["better"] == "sparser"
        for task in ("chains", "chains-1", "chains-2"):
            assert by_name[task, measure]["verdict"] == "U"
            best = by_name[task, measure]["optimum"]
            assert best["low"] <= best["experts"] <= best["high"]
            assert best["experts"] == pytest.approx(16, rel=0.2)
    assert "falls up to about 16 experts and rises beyond" in by_name["chains", "loss"]["sentence"]
    assert by_name["chains", "accuracy"]["left"]["mean"] > 0 > by_name["chains", "accuracy"]["right"]["mean"]
    assert by_name["facts", "loss"]["optimum"]["at_edge"] == 1


def test_worse_all_the_way_is_monotone_the_other_way():
    rising = {"facts": lambda x: 1 + 0.15 * x}
    one = verdicts(frontier(sweep(swept(rising))))["facts", "loss"]
    assert (one["verdict"], one["better"]) == ("monotone", "denser")
    assert one["left"]["mean"] == pytest.approx(0.15, abs=0.03)
    assert one["left"]["low"] < one["left"]["mean"] < one["left"]["high"]


def test_noise_cannot_tell():
    analysis = frontier(sweep(swept({"facts": lambda _: 1.5}, noise=0.3)))
    by_name = verdicts(analysis)
    assert {by_name["facts", measure]["verdict"] for measure in ("loss", "accuracy")} == {"cannot tell"}
    assert "cannot tell" in by_name["facts", "loss"]["sentence"]


def test_the_margin_is_an_option():
    flat = {"facts": lambda x: 2 - 0.3 * min(x, 4)}  # falls to 16 experts, then neither falls nor rises
    trials = sweep(swept(flat, seeds=range(10, 15), noise=0.05))
    assert verdicts(frontier(trials, 0.001))["facts", "loss"]["verdict"] == "cannot tell"
    assert verdicts(frontier(trials, 0.2))["facts", "loss"]["verdict"] == "monotone"
    with pytest.raises(RecipeError, match="margin"):
        frontier(trials, 0)


def test_two_seeds_give_figures_and_the_reason_that_there_is_no_verdict():
    analysis = frontier(sweep(swept(CURVES, seeds=range(2)), swept(CURVES, seeds=range(2), experts=[1])))
    for one in analysis["curves"][0]["verdicts"]:
        assert one["verdict"] is None
        assert "2 complete seeds" in one["sentence"]
    assert all(one["verdict"] is None and one["difference"] is not None for one in effects(analysis, "dense"))
    assert all(one["verdict"] is None for one in analysis["audit"])
    value = analysis["points"][0]["values"]["facts"]["loss"]
    assert value["mean"] is not None
    assert value["low"] is None
    assert "2 seeds" in analysis["notes"][0]


def test_gaps_and_the_chain(analysis):
    point = next(one for one in analysis["points"] if one["experts"] == 16)
    values = point["values"]
    gap = values["facts"]["generalisation_gap"]["mean"]
    assert gap == pytest.approx(values["facts"]["loss"]["mean"] - values["training"]["loss"]["mean"])
    gaps = [one["values"]["facts"]["loss_accuracy_gap"]["mean"] for one in analysis["points"]]
    assert np.mean(gaps) == pytest.approx(0, abs=1e-9)
    low = values["facts"]["accuracy"]["low"]
    assert low < values["facts"]["accuracy"]["mean"]


def test_dense_against_each_moe_of_its_budget(analysis):
    against = effects(analysis, "dense")
    assert len(against) == len(EXPERTS)
    last = against[-1]
    assert last["contrast"].startswith("128 experts")
    assert last["verdict"] == "better"
    assert last["low"] < -0.15 * 7 < last["high"]
    assert len(analysis["budgets"]) == 1


def test_a_group_of_other_active_size_is_another_budget_and_compared_at_equal_loss():
    better = {"facts": lambda x: falling(x) - 0.3}
    analysis = frontier(sweep(swept({"facts": falling}), swept(better, width=128)))
    assert len(analysis["budgets"]) == 2
    assert [curve["budget"] for curve in analysis["curves"]] == [0, 1]
    (wider,) = effects(analysis, "budget")  # both have the same training losses
    assert wider["difference"] == pytest.approx(-0.3, abs=0.02)
    assert wider["verdict"] == "better"


def test_more_chosen_experts_at_equal_tpp():
    better = {"facts": lambda x: falling(x) - 0.1}
    analysis = frontier(sweep(swept({"facts": falling}), swept(better, top_k=4, experts=EXPERTS[1:])))
    of_k = effects(analysis, "top_k")
    assert len(of_k) == len(EXPERTS) - 1
    assert all(one["contrast"].startswith("K 4 − K 2") for one in of_k)
    assert np.mean([one["difference"] for one in of_k]) == pytest.approx(-0.1, abs=0.03)


def test_learning_rates_at_equal_training_loss():
    slow, fast = swept({"facts": falling}), swept({"facts": lambda x: falling(x) + 0.2}, rate=0.01)
    (one,) = effects(frontier(sweep(slow, fast)), "learning_rate")
    assert one["contrast"].startswith("lr 0.01")
    assert one["verdict"] == "worse"
    assert one["difference"] == pytest.approx(0.2, abs=0.03)
    for one in fast:
        one["found"]["training_loss"] += 5
    (apart,) = effects(frontier(sweep(slow, fast)), "learning_rate")
    assert apart["verdict"] is None
    assert "overlap" in apart["reason"]


def test_audit_slopes(analysis):
    gini, coverage, _ = analysis["audit"]
    assert gini["mean"] == pytest.approx(0.05)
    assert gini["verdict"] == "rises"
    assert (coverage["mean"], coverage["verdict"]) == (pytest.approx(0), "cannot tell")


def test_failed_trials_leave_out_their_point_or_their_seed():
    trials = swept(CURVES)
    for one in trials:
        if one["experts"] == 128 or (one["experts"] == 8 and one["seed"] == 0):
            one.update(found=None, error="out of memory")
    analysis = frontier(sweep(trials))
    one = verdicts(analysis)["facts", "loss"]
    assert one["points_left_out"] == [128]
    assert one["seeds"] == [1, 2, 3, 4]
    assert len(analysis["failed"]) == 6
    assert next(p for p in analysis["points"] if p["experts"] == 8)["failed"] == 1
    for one in trials:
        one.update(found=None, error="out of memory")
    assert frontier(sweep(trials))["curves"][0]["verdicts"] == []


def test_accuracy_at_the_floor_is_cautioned():
    one = verdicts(frontier(sweep(swept({"facts": lambda x: 6 - 0.1 * x}))))["facts", "accuracy"]
    assert "floor" in one["sentence"]


def test_everything_is_json_and_tables(analysis):
    json.dumps(analysis, allow_nan=False)
    tables = {name: pl.from_arrow(table) for name, table in frontier_tables(analysis).items()}
    assert tables["verdicts"].height == 8
    assert tables["frontier"].filter(task="facts", measure="loss").height == len(EXPERTS) + 1
    assert tables["effects"].height == len(analysis["effects"])
    assert frontier(sweep(swept(CURVES), swept(CURVES, experts=[1]))) == analysis


def test_a_trial_without_training_loss_has_no_generalisation_gap():
    lone = trial(0, 4, {"facts": 1.0})
    lone["found"]["training_loss"] = None
    (point,) = frontier(sweep([lone]))["points"]
    assert set(point["values"]["facts"]) == {"loss", "loss_per_byte", "accuracy"}
