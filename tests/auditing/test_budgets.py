"""Budget sweeps: recut from the trace, rerun with the model, held against plain audits at that K."""

import pytest
import torch
from auditing.tiny_tasks import task_set
from tiny import random_model, tiny_tokenizer

from turnout import audit, ops
from turnout.auditing.budgets import budget_sweep
from turnout.auditing.config import AuditConfig
from turnout.auditing.reading import Domains
from turnout.errors import RecipeError
from turnout.models.wrap.anatomy import read
from turnout.runs import RunFolder

KS = [1, 2, 4]


def opened(folder, tasks):
    trace = RunFolder.read(folder).trace()
    return trace, Domains.of(trace.samples()["domain"].to_list(), tasks.domains)


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    folder, tasks = tmp_path_factory.mktemp("budgets") / "run", task_set(18, longest=4)
    moe = read(random_model("olmoe"), tiny_tokenizer(), "tiny")
    return moe, tasks, audit(moe, tasks, folder), folder


def at(sweep, mode, k):
    return [row for row in sweep.rows if row.mode == mode and row.k == k]


def test_recut_is_the_same_p_with_another_k(audited):
    _, tasks, result, folder = audited
    trace, domains = opened(folder, tasks)
    sweep = budget_sweep(trace, domains, AuditConfig(), KS)
    assert sweep.missing == "the model was not given"
    assert {row.mode for row in sweep.rows} == {"recut"}
    for layer, row in zip(result.layers, at(sweep, "recut", 2), strict=True):  # the model's own K
        assert list(row.committee) == layer["committee"]
        assert row.measures["coverage"] == pytest.approx(layer["coverage"])
        assert row.measures["influence_ratio"] == pytest.approx(layer["influence_ratio"])
        assert row.retention == 1
    for layer, row in zip(result.layers, at(sweep, "recut", 4), strict=True):
        p_SE = torch.from_numpy(trace.scores(layer["layer"])).double()
        c_DE = torch.stack([p_SE[domains.label_S == d].mean(0) for d in range(3)])
        members = ops.committee(c_DE, 4, 0.8).members.tolist()
        assert list(row.committee) == members
        assert row.measures["coverage"] == pytest.approx(float(c_DE.mean(0)[members].sum()))
        assert row.retention == len(set(members) & set(layer["committee"])) / len(layer["committee"])


@pytest.mark.parametrize("scope", ["last", "all"])
@pytest.mark.parametrize("kind", ["gate", "frequency", "weight", "released"])
def test_rerun_is_an_audit_of_the_model_with_that_k(audited, tmp_path, scope, kind):
    moe, tasks, _, folder = audited
    config = AuditConfig(scope=scope, kind=kind, token_budget=300)
    sweep = budget_sweep(*opened(folder, tasks), config, [2, 4], moe)
    other = read(random_model("olmoe", num_experts_per_tok=4), tiny_tokenizer(), "tiny")  # the same weights
    expected = audit(other, tasks, tmp_path / "four", config=config)
    for layer, row in zip(expected.layers, at(sweep, "rerun", 4), strict=True):
        assert list(row.committee) == layer["committee"]
        assert row.measures["coverage"] == pytest.approx(layer["coverage"], rel=1e-4)
        assert row.fallback == layer["fallback"]
    assert all(row.retention == 1 for row in at(sweep, "rerun", 2))
    assert sweep.missing is None
    assert all(layer.router.top_k == 2 for layer in moe.layers)


def test_result_as_json_and_table(audited):
    moe, tasks, _, folder = audited
    sweep = budget_sweep(*opened(folder, tasks), AuditConfig(), [4, 1, 4], moe)
    content, table = sweep.to_dict(), sweep.tables()["budgets"]
    assert content["k"] == [1, 4]
    assert content["own_k"] == [2]
    assert [(c["mode"], c["k"]) for c in content["curves"]] == [(m, k) for m in ("recut", "rerun") for k in (1, 4)]
    rows = [r for r in table.to_pylist() if r["mode"] == "rerun" and r["k"] == 4]
    assert content["curves"][3]["retention"] == pytest.approx(sum(r["retention"] for r in rows) / 3)
    assert content["curves"][3]["coverage"] == pytest.approx(sum(r["coverage"] for r in rows) / 3)
    assert not any(r["own"] for r in rows)
    assert table.num_rows == 2 * 2 * 3
    first = {row.mode: row.committee for row in sweep.rows if row.k == 4 and row.layer == 0}
    assert first["recut"] == first["rerun"]  # nothing below the first router has changed


def test_a_kept_rerun_is_not_computed_again(audited, tmp_path, monkeypatch):
    moe, tasks, _, folder = audited
    opened_run = opened(folder, tasks)
    with RunFolder.open(tmp_path / "kept", {"verb": "budgets"}) as run:
        first = budget_sweep(*opened_run, AuditConfig(), [1, 4], moe, run=run)
        monkeypatch.setattr("turnout.auditing.budgets.capture", None)  # a forward now would fail
        assert budget_sweep(*opened_run, AuditConfig(), [1, 4], moe, run=run) == first


def test_some_domains_only(audited):
    _, tasks, _, folder = audited
    trace, domains = opened(folder, tasks)
    sweep = budget_sweep(trace, domains, AuditConfig(), [2], kept=[0, 2])
    p_SE = torch.from_numpy(trace.scores(0)).double()
    c_DE = torch.stack([p_SE[domains.label_S == d].mean(0) for d in (0, 2)])
    assert list(sweep.rows[0].committee) == ops.committee(c_DE, 2, 0.8).members.tolist()


def test_refusals(audited, tmp_path):
    _, tasks, _, folder = audited
    opened_run = opened(folder, tasks)
    for ks, words in (([9], "K from 1 to 8, the experts of a layer, got 9"), ([0], "got 0"), ([], "at least one K")):
        with pytest.raises(RecipeError, match=words):
            budget_sweep(*opened_run, AuditConfig(), ks)
    phi = read(random_model("phimoe"), tiny_tokenizer(), "phi")
    audit(phi, tasks, tmp_path / "phi")
    sweep = budget_sweep(*opened(tmp_path / "phi", tasks), AuditConfig(), [2, 4], phi)
    assert "does not follow its top_k" in sweep.missing
    assert {row.mode for row in sweep.rows} == {"recut"}
