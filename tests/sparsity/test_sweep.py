"""Sweeps through the command line and Python: results, resuming, failures, killed workers, Ray."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from listeners import Recorder
from sparsity.sweeps import content, write

import turnout
from turnout import SweepRecipe, SweepResult
from turnout.errors import RecipeError, RunError
from turnout.listener import Listener
from turnout.runs import verify
from turnout.sparsity.sweep.recipe import Budget
from turnout.sparsity.sweep.run import estimate_remaining

TWO = {"grid": [{"experts": [1, 4]}]}


def sweep(recipe, out, *options):
    command = [sys.executable, "-m", "turnout", "sweep", str(recipe), "--out", str(out), "--processes", "2", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A finished sweep of a dense model and a MoE, audited, and its recipe."""
    folder = tmp_path_factory.mktemp("swept")
    tasks = folder / "tasks.jsonl"
    rows = [{"text": "start 5 add 3 : 8 . 8 .", "domain": d} for d in ("a", "b") for _ in range(3)]
    tasks.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ask = content()["ask"] | {"audit": str(tasks)}
    recipe = write(folder / "recipe.yaml", **TWO, ask=ask)
    done = sweep(recipe, folder / "out", "--json")
    assert done.returncode == 0, done.stderr
    return recipe, folder / "out", done


def test_every_trial_is_trained_and_scored(swept):
    _, out, done = swept
    result = SweepResult.load(out)
    assert json.loads(done.stdout) == result.to_dict()
    assert [trial["experts"] for trial in result.trials] == [1, 4]
    assert not result.failed
    for trial in result.trials:
        tasks = trial["found"]["tasks"]
        assert set(tasks) == {"facts", "chains-1", "chains-2", "chains-3"}
        assert tasks["facts"]["n"] == 20
        assert 0 <= tasks["facts"]["bits_per_parameter"] < 1
        assert tasks["chains-3"]["nats_per_token"] > 0
        assert set(trial["found"]["held_out_loss"]) == {"facts", "chains"}
    dense, moe = result.trials
    assert dense["found"]["audit"] is None
    assert len(moe["found"]["audit"]["layers"]) == 1
    assert verify(out) == []
    assert "2 trials" in done.stderr
    assert "FLOPs: about" in done.stderr


def test_tables_are_tidy(swept):
    result = SweepResult.load(swept[1])
    frame = result.frame()
    assert frame.columns == ["trial", "shape", "seed", "task", "metric", "value"]
    one = frame.filter(task="facts", metric="accuracy")
    assert one["value"].to_list() == [trial["found"]["tasks"]["facts"]["accuracy"] for trial in result.trials]
    assert frame.filter(task="audit", metric="gini").height == 1
    assert result.shapes()["tpp"].to_list() == [trial["tpp"] for trial in result.trials]


def test_a_sweep_is_analyzed_and_drawn(swept):
    _, out, _ = swept
    analysis = SweepResult.load(out).frontier()
    assert analysis["margin"] == 0.01
    assert [point["experts"] for point in analysis["points"]] == [1, 4]
    assert analysis["curves"][0]["verdicts"][0]["verdict"] is None
    assert {one["effect"] for one in analysis["effects"]} == {"dense"}
    assert all((out / "tables" / f"{name}.parquet").is_file() for name in ("frontier", "verdicts", "effects"))
    assert "Is the sparsest best?" in (out / "report.html").read_text()


@pytest.mark.slow
def test_a_finished_sweep_is_reported_as_complete(swept):
    recipe, out, _ = swept
    again = sweep(recipe, out)
    assert again.returncode == 0
    assert "is complete" in again.stderr
    assert "d16-l1-dense" in again.stdout
    assert {"facts", "chains"} <= {line.split()[1] for line in again.stdout.splitlines() if len(line.split()) == 4}
    assert "…" not in again.stdout


def test_another_recipe_is_refused_with_the_difference(swept):
    recipe, out, _ = swept
    other = SweepRecipe.load(recipe).model_copy(update={"budget": Budget(tokens=2048)})
    with pytest.raises(RunError, match=r"budget.tokens = 1536.*got 2048"):
        turnout.sweep(other, out)


@pytest.mark.slow
def test_ray_writes_the_same_bytes(swept, tmp_path):
    recipe, out, _ = swept
    done = sweep(recipe, tmp_path / "ray", "--engine", "ray")
    assert done.returncode == 0, done.stderr
    for name in ("sweep.json", "tables/metrics.parquet", "tables/trials.parquet"):
        assert (tmp_path / "ray" / name).read_bytes() == (out / name).read_bytes(), name


@pytest.mark.slow
def test_a_killed_sweep_resumes_without_repeating_trials(swept, tmp_path):
    recipe, out, _ = swept
    folder = tmp_path / "out"
    command = [sys.executable, "-m", "turnout", "sweep", str(recipe), "--out", str(folder), "--processes", "1"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    results = lambda: list(folder.glob("trials/*/result.json"))  # noqa: E731
    deadline = time.monotonic() + 250
    while not results() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()  # it alone
    process.wait()
    deadline = time.monotonic() + 60
    while alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(process.pid)  # its worker does not outlive it
    (first,) = results()
    written = first.stat().st_mtime_ns
    assert not (folder / "manifest.json").exists()
    assert sweep(recipe, folder).returncode == 0
    assert first.stat().st_mtime_ns == written
    assert (folder / "sweep.json").read_bytes() == (out / "sweep.json").read_bytes()


def alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_a_failed_trial_is_kept_and_the_others_run(tmp_path):
    grid = [{"experts": [4], "hidden_size": [16, 17]}]
    with pytest.raises(RecipeError, match="multiple of heads"):
        turnout.sweep(SweepRecipe.parse(content(grid=grid)), tmp_path / "refused")
    recipe = SweepRecipe.parse(content(grid=[{"experts": [4], "learning_rate": [0.01, 1e30]}]))
    recorder = Recorder()
    result = turnout.sweep(recipe, tmp_path / "out", listener=recorder)
    good, bad = result.trials
    assert good["error"] is None
    assert bad["found"] is None
    assert bad["error"].startswith("training: expected finite held-out losses, got {'facts': nan")
    assert [state for name, state in recorder.trials if name == bad["name"]] == ["waiting", "running", "failed"]
    assert set(result.frame()["trial"]) == {good["name"]}
    assert result.shapes()["error"].to_list() == [None, bad["error"]]


@pytest.mark.slow
def test_a_refused_retry_leaves_the_sweep_as_it_is(tmp_path):
    folder = tmp_path / "out"
    recipe = SweepRecipe.parse(content(grid=[{"experts": [4], "learning_rate": [0.01, 1e30]}]))
    turnout.sweep(recipe, folder)
    assert estimate_remaining(recipe, folder, 1, Recorder()).trials == 0
    assert estimate_remaining(recipe, folder, 1, Recorder(), retry_failed=True).trials == 1
    other = recipe.model_copy(update={"budget": Budget(tokens=2048)})
    with pytest.raises(RunError, match=r"budget.tokens = 1536.*got 2048"):
        turnout.sweep(other, folder, retry_failed=True)
    assert verify(folder) == []
    assert len(turnout.sweep(recipe, folder).failed) == 1


def test_other_texts_to_audit_are_refused(swept, tmp_path):
    recipe, out, _ = swept
    tasks = Path(SweepRecipe.load(recipe).ask.audit)
    written = tasks.read_bytes()
    shutil.copytree(out, tmp_path / "half")
    (tmp_path / "half" / "manifest.json").unlink()
    try:
        tasks.write_bytes(written + written)
        with pytest.raises(RunError, match=r"tasks.jsonl.* as in the run that it contains"):
            turnout.sweep(recipe, tmp_path / "half")
    finally:
        tasks.write_bytes(written)


@pytest.mark.slow
def test_a_shape_that_cannot_be_timed_is_left_out_of_the_estimate(tmp_path):
    recipe = SweepRecipe.parse(content(grid=[{"experts": [4], "expert_width": [16, 2**44]}]))  # petabytes
    cost = estimate_remaining(recipe, tmp_path / "out", 1, Recorder())
    assert len(cost.timed) == 1
    assert cost.seconds > 1e6 * cost.timed[0][1]


@pytest.mark.slow
def test_a_killed_worker_is_tried_once_more(tmp_path):
    killer = Killer(times=1)
    result = turnout.sweep(content(grid=[{"experts": [4]}]), tmp_path / "out", listener=killer)
    assert killer.states == ["waiting", "running", "waiting", "running", "done"]
    assert not result.failed


class Killer(Listener):
    """Kills the process of a trial that starts to run, so many times."""

    def __init__(self, times):
        self.states, self._times = [], times

    def trial(self, name, state):
        self.states.append(state)
        if state == "running" and self.states.count("running") <= self._times:
            threading.Thread(target=kill_a_worker).start()


def kill_a_worker():
    while not (children := multiprocessing.active_children()):
        time.sleep(0.01)
    os.kill(children[0].pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_worker_that_is_always_killed_fails(tmp_path):
    recipe = content(grid=[{"experts": [4]}])
    result = turnout.sweep(recipe, tmp_path / "out", listener=Killer(times=2))
    assert "killed by signal 9, 2 times" in result.failed[0]["error"]
    page = (tmp_path / "out" / "report.html").read_text()
    recorder = Recorder()
    again = turnout.sweep(recipe, tmp_path / "out", retry_failed=True, listener=recorder)
    assert not again.failed
    assert not again.already_complete
    assert recorder.notes == []
    assert (tmp_path / "out" / "report.html").read_text() != page


@pytest.mark.slow
def test_a_dry_run_writes_nothing(tmp_path):
    recipe = write(tmp_path / "recipe.yaml")
    done = sweep(recipe, tmp_path / "out", "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    cost = json.loads(done.stdout)
    assert cost["trials"] == 3
    assert cost["tokens"] == 3 * 1536
    assert cost["seconds"] > 0
    assert cost["disk"] > 0
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_finished_trials_are_not_in_the_estimate(swept, tmp_path):
    recipe, out, _ = swept
    loaded, recorder = SweepRecipe.load(recipe), Recorder()
    assert estimate_remaining(loaded, out, 1, recorder).trials == 0
    shutil.copytree(out, tmp_path / "half")
    next(Path(tmp_path / "half" / "trials").glob("*dense*/result.json")).unlink()
    assert estimate_remaining(loaded, tmp_path / "half", 1, recorder).trials == 1
