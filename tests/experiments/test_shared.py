"""What the experiments share: tables, injection into docs, intervals, pools, checkpoints, planted traces."""

import importlib
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from experiments.shared import intervals, markdown, planted, pool, rows, training
from turnout.tasks.question import Question

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in (ROOT / "experiments").glob("*/*.py")
)
VALUES = np.array([0.3, -0.1, 0.4, 0.25, 0.6])


def test_a_table_has_a_rule_under_its_head():
    assert markdown.table(["a", "b"], [["1", "2"], ["3", "4"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n| 3 | 4 |\n"
    assert markdown.table(["a"], []) == ""


def test_sections_without_body_are_left_out():
    parts = [("One", "| a |\n"), ("Empty", ""), ("", "| b |\n")]
    assert markdown.sections(parts) == "### One\n\n| a |\n\n| b |\n\n"


def test_injection_replaces_what_stands_between_the_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- results: written by x/analyse.py -->\nold\n<!-- end of results -->\nafter\n")
    for text in ("first\n", "second\n"):
        markdown.inject(page, "x/analyse.py", text)
        assert page.read_text() == (
            f"before\n<!-- results: written by x/analyse.py -->\n\n{text}<!-- end of results -->\nafter\n"
        )
    with pytest.raises(ValueError, match=r"written by y\.py"):
        markdown.inject(page, "y.py", "third\n")
    assert "second" in page.read_text()


def test_intervals_and_p_are_those_of_a_one_sample_t_test():
    test = stats.ttest_1samp(VALUES, 0)
    assert intervals.p_value(VALUES) == pytest.approx(test.pvalue)
    assert intervals.t_interval(VALUES) == pytest.approx(tuple(test.confidence_interval()))
    assert intervals.paired(VALUES)["mean"] == pytest.approx(VALUES.mean())


def test_equal_values_have_no_spread():
    assert intervals.paired(np.zeros(3)) == {"mean": 0, "low": 0, "high": 0, "p": 1, "detectable": 0}
    assert intervals.p_value(np.ones(3)) == 0


def test_a_detectable_mean_is_found_with_the_stated_power():
    least = intervals.detectable(VALUES)
    noncentrality = least / VALUES.std(ddof=1) * math.sqrt(len(VALUES))
    quantile = stats.t.ppf(0.975, len(VALUES) - 1)
    assert 1 - stats.nct.cdf(quantile, len(VALUES) - 1, noncentrality) == pytest.approx(0.8, abs=1e-6)
    assert intervals.detectable(VALUES, power=0.9) > least
    steps = intervals.detectable(VALUES, step=0.25) / (0.25 * VALUES.std(ddof=1))
    assert steps == pytest.approx(math.ceil(least / (0.25 * VALUES.std(ddof=1))))


@pytest.mark.parametrize(
    ("values", "text"), [([], "–"), ([0.5], "+0.5000"), ([0.1, 0.1], "+0.1000 [+0.1000, +0.1000]")]
)
def test_few_values_are_shown_as_they_are(values, text):
    assert intervals.over_seeds(values) == text


WORKER = """
import json, os, signal, sys
from pathlib import Path
job = json.loads(sys.argv[1])
if job["does"] == "write":
    Path(job["folder"], job["name"] + ".json").write_text(json.dumps({"threads": os.environ["OMP_NUM_THREADS"]}))
elif job["does"] == "fail":
    sys.exit("no luck")
else:
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_pool_keeps_results_and_errors_and_forgets_kills(tmp_path, monkeypatch, capsys):
    (tmp_path / "pool_worker.py").write_text(WORKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    jobs = [{"name": does, "does": does, "folder": str(tmp_path)} for does in ("write", "fail", "killed")]

    def start(job):
        if not pool.is_done(tmp_path, job["name"]):
            pool.run_module("pool_worker", job, tmp_path, [job["name"]])

    pool.run_all(start, jobs, 2)
    assert pool.read_results(tmp_path) == {"write": {"threads": "1"}}
    assert (tmp_path / "fail.error").read_text().strip() == "no luck"
    assert [pool.is_done(tmp_path, job["name"]) for job in jobs] == [True, True, False]
    printed = capsys.readouterr().out
    assert all(line in printed for line in ("write done\n", "fail failed: no luck\n", "killed failed: \n"))
    monkeypatch.setattr(pool, "run_module", lambda module, job, *_: started.append(job["name"]))
    started: list[str] = []
    pool.run_all(start, jobs, 1)
    assert started == ["killed"]


def test_results_are_written_whole_and_read_by_name(tmp_path):
    for name in ("b", "a"):
        pool.write_result(tmp_path / "results", name, {"name": name, "path": tmp_path})
    pool.write_error(tmp_path / "results", "c", "x" * 5000)
    assert list(pool.read_results(tmp_path / "results")) == ["a", "b"]
    assert pool.read_results(tmp_path / "results")["a"] == {"name": "a", "path": str(tmp_path)}
    assert len((tmp_path / "results" / "c.error").read_text()) == 4000


def test_rows_are_tasks(tmp_path):
    from turnout.tasks.load import load_tasks

    question = Question(id="q", text="What is 2 + 2?", choices=("3", "4"), answer=1, subject="sums", domain="maths")
    file = tmp_path / "tasks.jsonl"
    file.write_text(rows.question_row(question) + rows.text_row("t", "prose", "Über den Fluß."), "utf-8")
    first, second = load_tasks(file).questions
    assert (first.text, tuple(first.choices), first.answer) == (question.text, question.choices, 1)
    assert (first.subject, first.domain) == ("sums", "maths")
    assert (second.id, second.text, second.domain) == ("t", "Über den Fluß.", "prose")


def test_checkpoints_are_kept_at_their_steps(tmp_path):
    saved = []
    model = SimpleNamespace(save_pretrained=saved.append)
    keep = training.KeepCheckpoints((2, 4), lambda step: tmp_path / str(step), stop=True)
    stops = []
    for step in range(1, 6):
        control = SimpleNamespace(should_training_stop=False)
        keep.on_step_end(None, SimpleNamespace(global_step=step), control, model=model)
        stops.append(control.should_training_stop)
    assert saved == [tmp_path / "2", tmp_path / "4"]
    assert stops == [False, False, False, True, True]


def test_a_planted_core_covers_what_it_should():
    design = planted.Design(experts=12)
    structure = planted.core_covering(0.6, design)
    covered_D = planted.truth(structure, design, seed=1)[:, list(structure.members)].sum(1)
    np.testing.assert_allclose(covered_D.numpy(), 0.6, atol=0.01)


@pytest.mark.parametrize("module", MODULES)
def test_every_script_imports(module):
    importlib.import_module(module)
