"""Figures from a stored trace against plain loops over the same tokens."""

import math

import numpy as np
import pytest
from auditing import plain
from auditing.planted import COUNTS, LAYERS, as_lists, describe, domains_of, samples, write_trace

from turnout.auditing.config import KINDS, AuditConfig
from turnout.auditing.figures import content, measure
from turnout.auditing.measures import MEASURES
from turnout.auditing.reading import Domains
from turnout.auditing.tables import tables
from turnout.errors import RecipeError, TaskError
from turnout.ops import wilson
from turnout.runs import TraceLayer
from turnout.runs.tables import frame, parquet_bytes

FIGURES = ("committee", "mean_rank", "rank_variance", "presence", "candidates", "fallback", *MEASURES)
MODEL = {"id": "planted"}
pytestmark = pytest.mark.usefixtures("few_draws")


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    dataset = samples()
    return dataset, write_trace(tmp_path_factory.mktemp("planted") / "run", dataset)


def audit(trace, dataset, domain_map="file", **options):
    measured = measure(trace, domains_of(dataset), AuditConfig.of(**options))
    return measured, content(measured, MODEL, describe(dataset, domain_map=domain_map))


def near(expected):
    """`expected` within the tolerance of float32, the dtype in which traces are stored."""
    return pytest.approx(expected, rel=2e-5, abs=2e-6)


@pytest.mark.parametrize("scope", ["last", "all"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_of_every_kind_and_scope(planted, kind, scope):
    dataset, trace = planted
    measured, audit_json = audit(trace, dataset, kind=kind, scope=scope)
    assert [layer["layer"] for layer in audit_json["layers"]] == [1, 4]
    contribution = frame(tables(measured)["contribution"])
    for layer, stored in zip(LAYERS, audit_json["layers"], strict=True):
        names = measured.domains.names
        by_kind = plain.contributions(as_lists(dataset), layer.layer, layer.experts, names, scope)
        table = contribution.filter(contribution["layer"] == layer.layer)
        assert table["domain"].to_list() == [name for name in names for _ in range(layer.experts)]
        for other in KINDS:
            assert table[other].to_numpy() == near(np.ravel(by_kind[other])), other
        # Ranks of the stored contributions: equal frequencies, added up in another order, differ in the last bit.
        rows = table[kind].to_numpy().reshape(len(names), layer.experts).tolist()
        expected = plain.figures(rows, layer.top_k)
        assert {name: stored[name] for name in FIGURES} == {
            name: value if name in ("committee", "candidates", "fallback") or value is None else near(value)
            for name, value in expected.items()
        }
        assert stored["specificity"] == near(
            plain.silhouettes(as_lists(dataset), layer.layer, layer.experts, names, scope)
        )
        assert stored["nulls"]["floors"] == {
            "gini_topk": 1 - layer.top_k / layer.experts,
            "coverage_topk": len(stored["committee"]) / layer.top_k,
            "coverage": len(stored["committee"]) / layer.experts,
        }


def test_the_planted_committee_is_found(planted):
    dataset, trace = planted
    for layer in audit(trace, dataset, scope="all")[1]["layers"]:
        assert layer["committee"] == [5]
        assert layer["mean_rank"] == [1.0]
        assert not layer["fallback"]


def test_overall_is_mean_min_and_max_over_layers(planted):
    dataset, trace = planted
    audit_json = audit(trace, dataset)[1]
    for name in MEASURES:
        values = [layer[name] for layer in audit_json["layers"]]
        expected = {"mean": sum(values) / 2, "min": min(values), "max": max(values), "undefined": 0}
        assert audit_json["overall"][name] == pytest.approx(expected)


@pytest.mark.parametrize("kind", KINDS)
def test_tables_agree_with_audit_json(planted, kind):
    dataset, trace = planted
    measured, audit_json = audit(trace, dataset, kind=kind)
    made = {name: frame(table) for name, table in tables(measured).items()}
    for layer in audit_json["layers"]:
        of_layer = {name: t.filter(t["layer"] == layer["layer"]) for name, t in made.items() if "layer" in t.columns}
        experts = of_layer["experts"]
        assert experts["expert"].to_list() == list(range(layer["experts"]))
        assert experts.filter(experts["candidate"])["expert"].to_list() == layer["candidates"]
        assert sorted(experts.filter(experts["member"])["expert"].to_list()) == sorted(layer["committee"])
        for name in ("mean_rank", "rank_variance", "presence"):
            assert experts[layer["committee"]][name].to_list() == pytest.approx(layer[name], abs=1e-12)
        assert experts["share"].sum() == pytest.approx(1)
        assert experts[layer["committee"]]["share"].sum() == pytest.approx(layer["coverage"])
        lorenz = of_layer["lorenz"].sort("position")["share"].to_numpy()
        assert 1 - np.sum(lorenz[1:] + lorenz[:-1]) / layer["experts"] == pytest.approx(layer["gini"])
        jaccard = of_layer["jaccard"]
        apart = jaccard.filter(jaccard["domain_a"] != jaccard["domain_b"])["jaccard"]
        assert (len(jaccard), apart.mean()) == (len(COUNTS) ** 2, pytest.approx(layer["jaccard_mean"]))
        ranks = of_layer["ranks"]
        assert ranks.select("expert", "rank").group_by("expert", maintain_order=True).mean()[
            "rank"
        ].to_list() == pytest.approx(experts["mean_rank"].to_list())
        silhouette = of_layer["silhouette"].join(made["samples"], on="index")
        for domain, value in layer["specificity"].items():
            assert silhouette.filter(silhouette["domain"] == domain)["silhouette"].mean() == pytest.approx(value)
    assert made["samples"]["index"].to_list() == list(range(len(dataset)))
    assert made["samples"]["domain"].to_list() == [s["domain"] for s in dataset]


def test_tables_have_the_same_bytes_twice(planted):
    dataset, trace = planted
    once, again = (tables(audit(trace, dataset)[0]) for _ in range(2))
    assert {n: parquet_bytes(t) for n, t in once.items()} == {n: parquet_bytes(t) for n, t in again.items()}


def test_sharding_changes_no_figure(planted, tmp_path):
    dataset, trace = planted
    other = write_trace(tmp_path / "run", dataset, n_shards=1)
    assert audit(other, dataset)[1] == audit(trace, dataset)[1]


def test_one_domain(tmp_path):
    dataset = samples({"only": 6})
    measured, audit_json = audit(write_trace(tmp_path / "run", dataset), dataset)
    for layer in audit_json["layers"]:
        assert (layer["jaccard_mean"], layer["specificity"]) == (None, None)
        assert layer["coverage"] > 0
        assert layer["gini"] > 0
        assert layer["rank_variance"] == [0] * len(layer["committee"])
    assert audit_json["overall"]["jaccard_mean"] == {"mean": None, "min": None, "max": None, "undefined": 2}
    assert len(tables(measured)["silhouette"]) == 0
    assert tables(measured)["jaccard"]["jaccard"].to_pylist() == [1.0, 1.0]


def test_a_domain_of_one_sample(tmp_path):
    dataset = samples({"many": 6, "few": 1})
    audit_json = audit(write_trace(tmp_path / "run", dataset), dataset)[1]
    assert audit_json["tasks"]["one_sample_domains"] == ["few"]
    assert [layer["specificity"]["few"] for layer in audit_json["layers"]] == [0, 0]


def test_released_of_single_samples_is_undefined(tmp_path):
    """Min–max over one sample is 0 for every expert, so that shares of the sum are undefined."""
    dataset = samples({"a": 1, "b": 1})
    measured, audit_json = audit(write_trace(tmp_path / "run", dataset), dataset, kind="released")
    for layer in audit_json["layers"]:
        assert {layer[name] for name in MEASURES if name != "jaccard_mean"} == {None}
        assert layer["jaccard_mean"] == 1  # all ranks are ties, broken by index
    assert tables(measured)["lorenz"].num_rows == 0
    assert tables(measured)["experts"]["share"].null_count == 20


def test_all_experts_chosen(tmp_path):
    layers = (TraceLayer(0, experts=3, top_k=3),)
    dataset = samples({"a": 4, "b": 4}, layers, committee=(1,))
    layer = audit(write_trace(tmp_path / "run", dataset, layers), dataset)[1]["layers"][0]
    assert layer["candidates"] == [0, 1, 2]
    assert layer["coverage"] == pytest.approx(layer["coverage_topk"])
    assert layer["nulls"]["floors"]["gini_topk"] == 0


def test_a_committee_of_all_experts_has_no_influence_ratio(tmp_path):
    """Two experts, each first in one domain, have equal mean and variance of rank, so that both are members."""
    layers = (TraceLayer(0, experts=2, top_k=2),)
    dataset = samples({"a": 1, "b": 1}, layers, committee=())
    for own, sample in enumerate(dataset):
        layer = sample["layers"][0]
        layer["p"][:] = np.float32([0.75, 0.25] if own else [0.25, 0.75])
        layer["chosen"][:] = [0, 1] if own else [1, 0]
        layer["weights"][:] = np.float32([0.75, 0.25])
    stored = audit(write_trace(tmp_path / "run", dataset, layers), dataset)[1]["layers"][0]
    assert stored["committee"] == [0, 1]
    assert (stored["coverage"], stored["influence_ratio"]) == (1, None)


def test_presence_is_the_threshold_of_candidates(planted):
    dataset, trace = planted
    for presence in (0.25, 0.5, 1.0):
        for layer, stored in zip(LAYERS, audit(trace, dataset, presence=presence)[1]["layers"], strict=True):
            rows = plain.contributions(as_lists(dataset), layer.layer, layer.experts, list(COUNTS), "last")["gate"]
            assert stored["candidates"] == plain.figures(rows, layer.top_k, presence)["candidates"]


def test_domains_below_min_specificity_are_dropped(planted):
    dataset, trace = planted
    names = domains_of(dataset).names
    everything = audit(trace, dataset)[1]
    mean = {name: np.mean([layer["specificity"][name] for layer in everything["layers"]]) for name in names}
    least = sorted(mean.values())[1]
    measured, audit_json = audit(trace, dataset, min_specificity=float(least))
    dropped = [name for name in names if mean[name] < least]
    assert audit_json["dropped_domains"] == dropped
    assert len(dropped) == 1
    kept = [s for s in dataset if s["domain"] not in dropped]
    for layer, stored in zip(LAYERS, audit_json["layers"], strict=True):
        kept_names = [name for name in names if name not in dropped]
        rows = plain.contributions(as_lists(kept), layer.layer, layer.experts, kept_names, "last")["gate"]
        assert stored["coverage"] == near(plain.figures(rows, layer.top_k)["coverage"])
        assert set(stored["specificity"]) == set(names)  # the reason for dropping it stays visible
    assert set(frame(tables(measured)["ranks"])["domain"]) == set(names) - set(dropped)
    assert set(frame(tables(measured)["contribution"])["domain"]) == set(names)


def test_a_min_specificity_without_any_domain_left_is_refused(planted, tmp_path):
    dataset, trace = planted
    with pytest.raises(RecipeError, match="min_specificity: expected a domain with a silhouette of 1"):
        audit(trace, dataset, min_specificity=1)
    one = samples({"only": 3})
    with pytest.raises(RecipeError, match="two domains"):
        audit(write_trace(tmp_path / "run", one), one, min_specificity=0)


def test_overall_without_lang_ling(tmp_path):
    dataset = samples({"Humanities": 5, "Lang-Ling": 4, "Biz-Law": 6})
    trace = write_trace(tmp_path / "run", dataset)
    assert audit(trace, dataset)[1]["overall_without"] == {}
    without = audit(trace, dataset, domain_map="mmlu-9")[1]["overall_without"]["Lang-Ling"]
    names = [name for name in domains_of(dataset).names if name != "Lang-Ling"]
    rest = [s for s in dataset if s["domain"] != "Lang-Ling"]
    values = {name: [] for name in MEASURES}
    for layer in LAYERS:
        rows = plain.contributions(as_lists(rest), layer.layer, layer.experts, names, "last")["gate"]
        expected = plain.figures(rows, layer.top_k)
        for name in MEASURES:
            values[name].append(expected[name])
    for name in MEASURES:
        assert without[name]["mean"] == near(sum(values[name]) / 2)
        assert without[name]["max"] == near(max(values[name]))


def test_other_domains_on_the_same_trace(planted):
    dataset, trace = planted
    halves = ["even" if i % 2 == 0 else "odd" for i in range(len(dataset))]
    measured = measure(trace, Domains.of(halves, ["odd", "even"]), AuditConfig())
    assert measured.domains.names == ("odd", "even")
    relabelled = [{**s, "domain": half} for s, half in zip(dataset, halves, strict=True)]
    for layer, stored in zip(LAYERS, measured.layers, strict=True):
        rows = plain.contributions(as_lists(relabelled), layer.layer, layer.experts, ["odd", "even"], "last")["gate"]
        assert stored["gini"] == near(plain.figures(rows, layer.top_k)["gini"])
    with pytest.raises(TaskError, match="domains: expected one of odd, got even"):
        Domains.of(halves, ["odd"])


def test_accuracy_overall_and_by_domain(tmp_path):
    dataset = samples({"a": 4, "b": 3, "c": 2})
    rng = np.random.default_rng(1)
    answers = [(int(rng.integers(0, 3)), np.log(rng.dirichlet(np.ones(3))).tolist()) for _ in dataset]
    answers[0] = (None, answers[0][1])
    unknown = [i for i, s in enumerate(dataset) if s["domain"] == "c"]
    for i in unknown:
        answers[i] = (None, answers[i][1])
    measured, audit_json = audit(write_trace(tmp_path / "run", dataset, answers=answers), dataset)
    right = {i: int(np.argmax(p)) == a for i, (a, p) in enumerate(answers) if a is not None}
    overall = audit_json["accuracy"]["overall"]
    assert (overall["questions"], overall["correct"]) == (len(right), sum(right.values()))
    assert overall["accuracy"] == sum(right.values()) / len(right)
    of_b = [value for i, value in right.items() if dataset[i]["domain"] == "b"]
    assert audit_json["accuracy"]["domains"]["b"]["correct"] == sum(of_b)
    assert audit_json["accuracy"]["domains"]["c"] is None
    table = frame(tables(measured)["samples"])
    assert table["predicted"].to_list() == [int(np.argmax(p)) for _, p in answers]
    assert table["correct"].to_list() == [right.get(i) for i in range(len(dataset))]


def test_without_answers_there_is_no_accuracy(planted):
    dataset, trace = planted
    measured, audit_json = audit(trace, dataset)
    assert audit_json["accuracy"] is None
    assert tables(measured)["samples"]["correct"].null_count == len(dataset)


@pytest.mark.parametrize(("correct", "n"), [(0, 1), (0, 10), (5, 10), (10, 10), (137, 281)])
def test_wilson_solves_its_equation(correct, n):
    """Both ends solve (share − end)² = z²·end·(1 − end)/n, or are 0 or 1."""
    low, high = wilson(correct, n)
    assert 0 <= low <= correct / n <= high <= 1
    for end in (low, high):
        gap = (correct / n - end) ** 2 - 1.959963984540054**2 * end * (1 - end) / n
        assert math.isclose(gap, 0, abs_tol=1e-12)
