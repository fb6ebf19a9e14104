"""Norm-matched decay: the norms of another run, and scaling to them."""

import polars as pl
import pytest
import torch
from tiny import random_model
from transformers import TrainerControl, TrainerState

from turnout import NormMatchedDecay
from turnout.coupling.norm_matching import norm_at, norm_trajectory
from turnout.errors import ModelError, RunError
from turnout.models.wrap.anatomy import read
from turnout.models.wrap.gates import gate_matrices, router_rows


def write_metrics(run, rows):
    (run / "tables").mkdir(parents=True)
    columns = {"step": pl.Int64, "metric": pl.String, "source": pl.String, "value": pl.Float64}
    pl.DataFrame([(*row[:2], None, row[2]) for row in rows], schema=columns, orient="row").write_parquet(
        run / "tables" / "metrics.parquet"
    )
    return run


def test_norms_before_each_logged_update(tmp_path):
    rows = [
        (20, "coupling/layer_01/router_norm", 1.5),
        (10, "coupling/layer_01/router_norm", 2.0),
        (10, "coupling/layer_01/gate_norm", 7.0),
        (10, "coupling/router_norm", 9.0),
        (10, "loss", 3.0),
    ]
    trajectory = norm_trajectory(write_metrics(tmp_path / "run", rows))
    assert trajectory == {1: {"router": ((9, 2.0), (19, 1.5)), "gate": ((9, 7.0),)}}
    assert [norm_at(trajectory[1]["router"], step) for step in (8, 9, 14, 19, 30)] == [None, 2.0, 1.75, 1.5, 1.5]
    with pytest.raises(RunError, match="expected norms of a coupled run, got none; train that run with --erc"):
        norm_trajectory(write_metrics(tmp_path / "plain", rows[3:]))
    with pytest.raises(RunError, match="expected the metrics of a training run"):
        norm_trajectory(tmp_path / "nowhere")


def test_it_scales_down_to_the_trajectory_and_never_up():
    model = random_model("gpt_oss")
    layer = read(model).layers[1]
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    own = {"router": float(router_rows(layer).detach().norm()), "gate": float(gate_matrices(layer).detach().norm())}
    decay = NormMatchedDecay({1: {"router": ((5, own["router"] / 2),), "gate": ((5, own["gate"] * 2),)}})
    decay.on_train_begin(model=model)
    for step in (4, 5, 6):
        decay.on_step_end(None, TrainerState(global_step=step), TrainerControl())
        changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
        assert changed == (set() if step < 5 else {"model.layers.1.mlp.router.weight"})
    torch.testing.assert_close(router_rows(layer), before["model.layers.1.mlp.router.weight"] / 2)
    decay = NormMatchedDecay({1: {"gate": ((0, 1.0),)}})
    decay.on_train_begin(model=model)
    ups = layer.experts.gate_up_proj[:, :, 1::2].detach().clone()
    decay.on_step_end(None, TrainerState(global_step=9), TrainerControl())
    assert float(gate_matrices(layer).detach().norm()) == pytest.approx(1, rel=1e-5)
    assert torch.equal(layer.experts.gate_up_proj[:, :, 1::2], ups)


def test_a_trajectory_of_other_layers_is_refused():
    with pytest.raises(ModelError, match=r"expected MoE layers \[7\], as in the other run, got a model without \[7\]"):
        NormMatchedDecay({7: {"router": ((0, 1.0),)}}).on_train_begin(model=random_model("olmoe"))
