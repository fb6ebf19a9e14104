"""The table of measures: leading dimensions, undefined values, and a new entry in every part of an audit."""

import json
import math
from itertools import combinations
from pathlib import Path
from statistics import fmean

import jsonschema
import pytest
import torch
from auditing.tiny_tasks import task_set
from tiny import random_model, tiny_tokenizer

import turnout
from turnout.auditing.measures import MEASURES, Floor, Measure, Routing, drawn_measures, layer_measures
from turnout.auditing.result import Audit
from turnout.exchange import export
from turnout.models.wrap.anatomy import read
from turnout.report.audit.page import page_data
from turnout.report.audit.paper import write_figures
from turnout.report.audit.stored import read_run
from turnout.report.audit.summary import summary
from turnout.report.comparing.page import page_data as comparison_data
from turnout.report.comparing.words import comparison_tables

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/reference/audit.schema.json").read_text())
DRAWS = torch.rand(6, 4, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
MEMBERS = torch.tensor([1, 7])
pytestmark = pytest.mark.usefixtures("few_draws")


@pytest.mark.parametrize("name", MEASURES)
def test_leading_dimensions_equal_single_contributions(name):
    together = MEASURES[name].values(Routing(DRAWS, 3, MEMBERS))
    alone = [layer_measures(Routing(draw, 3, MEMBERS))[name] for draw in DRAWS]
    assert together.tolist() == pytest.approx(alone)
    assert MEASURES[name].values(Routing(DRAWS[:, None], 3, MEMBERS)).shape == (6, 1)


def test_jaccard_mean_is_over_pairs_of_different_domains():
    for draw, value in zip(DRAWS, MEASURES["jaccard_mean"].values(Routing(DRAWS, 3)).tolist(), strict=True):
        first = [set(row.topk(3).indices.tolist()) for row in draw]
        assert value == pytest.approx(fmean(len(a & b) / len(a | b) for a, b in combinations(first, 2)))


def test_undefined_is_nan_in_that_draw_alone():
    some = DRAWS.clone()
    some[2] = 0
    some[4, 1] = 0
    undefined = {
        name: one.values(Routing(some, 3, MEMBERS)).isnan().nonzero().flatten().tolist()
        for name, one in MEASURES.items()
    }
    assert undefined == {
        **{name: [2] for name in ("coverage", "coverage_topk", "gini", "influence_ratio")},
        "gini_topk": [2, 4],
        "jaccard_mean": [],
    }
    assert drawn_measures(Routing(some, 3, MEMBERS)) == {}


def test_a_committee_of_all_experts_has_no_influence_ratio():
    everyone = Routing(DRAWS, 3, torch.arange(10))
    assert MEASURES["influence_ratio"].values(everyone).isnan().all()
    assert "influence_ratio" not in drawn_measures(everyone)
    assert MEASURES["jaccard_mean"].values(Routing(DRAWS[:, :1], 3)).isnan().all()


def test_a_null_without_a_committee_is_for_measures_without_one():
    with pytest.raises(AssertionError, match="of_the_committee"):
        entry("of_the_committee", of_committee=True)


def entry(name, **changes):
    """A measure that is not in the table: the effective number of experts, exp of the entropy over experts."""
    options = {
        "label": "Effective experts",
        "short": "effective",
        "unit": "experts",
        "direction": "spread over more experts",
        "description": "Number of experts that would give the same entropy if they were used equally (Hill, 1973).",
        "compute": lambda layer: (
            torch.special.entr(layer.contribution_DE.mean(-2) / layer.contribution_DE.mean(-2).sum(-1, keepdim=True))
            .sum(-1)
            .exp()
        ),
        "defined": lambda contribution_DE: (contribution_DE.sum(-1) > 0).any(-1),
        "bounds": (1.0, math.inf),
        "format": ".1f",
        "floor": Floor("E", lambda layer: layer.n_experts),
        "interval": "debiased",
        "rotated": True,
        "permuted": name,
        "by_budget": True,
    }
    return Measure(name=name, **options | changes)


@pytest.fixture(scope="module")
def runs(few_draws, tmp_path_factory):
    """Runs of two models on the same questions, audited with one more measure in the table."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MEASURES, "effective", entry("effective"))
        for seed in (0, 1):
            moe = read(random_model("olmoe", seed=seed), tiny_tokenizer(), "tiny")
            turnout.audit(moe, task_set(18, longest=4), folder / f"{seed}", budgets=(1, 2))
        yield folder / "0", folder / "1"


def by_hand(contribution_DE):
    mean = contribution_DE.mean(0).tolist()
    return math.exp(-sum(value / sum(mean) * math.log(value / sum(mean)) for value in mean))


def test_a_new_measure_is_in_figures_intervals_and_nulls(runs):
    audit = Audit.load(runs[0])
    jsonschema.validate(audit.to_dict(), SCHEMA)
    contribution = audit.table("contribution")
    for layer in audit.layers:
        gate = contribution.filter(layer=layer["layer"])["gate"].to_torch().view(3, -1)
        assert layer["effective"] == pytest.approx(by_hand(gate))
        low, high = layer["intervals"]["effective"]
        assert 1 <= low <= layer["effective"] <= high
        nulls = layer["nulls"]
        assert nulls["floors"]["effective"] == layer["experts"]
        assert 1 <= nulls["rotated"]["effective"]["mean"] <= nulls["rotated"]["effective"]["q95"] <= layer["experts"]
        ceiling = nulls["domain_signal"]["effective_ceiling"]
        assert nulls["domain_signal"]["effective_ratio"] == pytest.approx(layer["effective"] / ceiling)
    assert audit.overall["effective"]["mean"] == pytest.approx(fmean(layer["effective"] for layer in audit.layers))
    assert audit.frame()["effective"].to_list() == [layer["effective"] for layer in audit.layers]
    assert audit.to_dict()["measures"][-1]["name"] == "effective"


def test_a_new_measure_is_in_budgets(runs):
    audit = Audit.load(runs[0])
    table = audit.table("budgets")
    assert table.filter(mode="recut", k=2)["effective"].to_list() == [layer["effective"] for layer in audit.layers]
    curves = audit.to_dict()["budgets"]["curves"]
    for curve in curves:
        assert curve["effective"] == pytest.approx(table.filter(mode=curve["mode"], k=curve["k"])["effective"].mean())


def test_a_new_measure_is_compared(runs):
    comparison = turnout.compare(runs)
    one, two = (Audit.load(path) for path in runs)
    rows = comparison.frame().filter(measure="effective", run="1")
    assert rows["difference"].to_list() == pytest.approx(
        [there["effective"] - here["effective"] for here, there in zip(one.layers, two.layers, strict=True)]
    )
    assert (rows["low"] <= rows["difference"]).all()
    assert (rows["difference"] <= rows["high"]).all()
    assert comparison.to_dict()["overall"][1]["differences"]["effective"]["interval"] is not None


def test_a_new_measure_is_in_the_export(runs, tmp_path):
    export(runs[0], tmp_path, names=["budgets"])
    columns = json.loads((tmp_path / "columns.json").read_text())["tables"]["budgets"]["columns"]
    meanings = {column["name"]: column["meaning"] for column in columns}
    assert meanings["effective"] == entry("effective").description
    assert meanings["coverage"] == MEASURES["coverage"].description


def test_a_new_measure_is_in_the_terminal(runs):
    audit = Audit.load(runs[0])
    shown = {
        head: cells
        for table in summary(audit.to_dict())
        for head, *cells in zip(table.columns, *table.rows, strict=True)
    }
    for cell, layer in zip(shown["effective"], audit.layers, strict=False):
        assert cell.startswith(f"{layer['effective']:.1f} [")
        assert cell.endswith(f"({layer['experts']:.1f})")
    tables = comparison_tables(turnout.compare(runs).to_dict())
    assert "Effective experts" in [table.title for table in tables]
    assert "Effective experts" in [row[0] for row in tables[0].rows]


def test_a_new_measure_is_in_page_data_and_paper_figures(runs, tmp_path):
    audit, run = Audit.load(runs[0]), read_run(runs[0])
    data = page_data(run)
    assert data["measures"][-1]["label"] == "Effective experts"
    nulls = [layer["nulls"] for layer in audit.layers]
    assert data["profiles"]["effective"] == {
        "layer": [layer["layer"] for layer in audit.layers],
        "value": [layer["effective"] for layer in audit.layers],
        "interval": [layer["intervals"]["effective"] for layer in audit.layers],
        "floor": [layer["experts"] for layer in audit.layers],
        "rotated": [null["rotated"]["effective"]["q95"] for null in nulls],
        "ceiling": [null["domain_signal"]["effective_ceiling"] for null in nulls],
    }
    assert data["overall"][-1]["mean"] == audit.overall["effective"]["mean"]
    assert data["budgets"]["names"]["effective"] == "Effective experts"
    assert (tmp_path / "depth-effective.svg") in write_figures(run, tmp_path)
    compared = comparison_data(turnout.compare(runs).to_dict())
    assert compared["measures"][-1]["name"] == "effective"


def test_a_run_without_the_measure_still_reads_and_compares(runs, monkeypatch):
    monkeypatch.setitem(MEASURES, "newer", entry("newer"))
    assert "newer" not in Audit.load(runs[0]).frame().columns
    rows = turnout.compare(runs).frame().filter(measure="newer")
    assert rows["value"].null_count() == len(rows)
