"""`audit` end to end on a tiny random OLMoE, against one question at a time and plain loops."""

import json
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from auditing import plain
from auditing.tiny_tasks import DOMAINS, one_by_one, task_set, token_ids
from listeners import Recorder
from tiny import random_model, tiny_tokenizer

from turnout import audit
from turnout.auditing import Audit, AuditConfig
from turnout.auditing.config import KINDS
from turnout.auditing.measures import MEASURES
from turnout.errors import ModelError, RecipeError, RunError, TaskError
from turnout.models.wrap.anatomy import read
from turnout.tasks.question import Question, TaskSet

TASKS = task_set()
pytestmark = pytest.mark.usefixtures("few_draws")


@pytest.fixture(scope="module")
def moe():
    return read(random_model("olmoe"), tiny_tokenizer(), "tiny")


@pytest.fixture(scope="module")
def run(moe, few_draws, tmp_path_factory):
    """A finished run of TASKS with answers."""
    out = tmp_path_factory.mktemp("audit") / "run"
    audit(moe, TASKS, out, answers=True, token_budget=512)
    return out


def near(expected):
    return pytest.approx(expected, rel=1e-4, abs=1e-5)


def table_bytes(path):
    return {file.name: file.read_bytes() for file in (path / "tables").iterdir()}


@pytest.mark.parametrize("scope", ["last", "all"])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_one_question_at_a_time(moe, run, kind, scope):
    samples, _ = one_by_one(moe, TASKS)
    result = audit(run, kind=kind, scope=scope)
    contribution = result.table("contribution")
    for stored in result.layers:
        expected = plain.contributions(samples, stored["layer"], 8, DOMAINS, scope)
        table = contribution.filter(pl.col("layer") == stored["layer"])
        for name in KINDS:
            assert table[name].to_numpy() == near(np.ravel(expected[name])), name
        figures = plain.figures(table[kind].to_numpy().reshape(3, 8).tolist(), 2)
        for name in ("committee", "candidates", "fallback"):
            assert stored[name] == figures[name]
        for name in (*MEASURES, "mean_rank", "rank_variance"):
            assert stored[name] == near(figures[name])
        assert stored["specificity"] == near(plain.silhouettes(samples, stored["layer"], 8, DOMAINS, scope))


def test_answers(moe, run):
    _, logprobs = one_by_one(moe, TASKS)
    result = Audit.load(run)
    predicted = [int(np.argmax(row)) for row in logprobs]
    assert result.table("samples")["predicted"].to_list() == predicted
    right = [p == q.answer for p, q in zip(predicted, TASKS.questions, strict=True)]
    assert result.accuracy["overall"]["accuracy"] == sum(right) / len(right)


@pytest.mark.parametrize("options", [{"token_budget": 64}, {"token_budget": 4096}, {"padding": "left"}], ids=str)
def test_batching_changes_no_figure(moe, run, options):
    expected, result = Audit.load(run), audit(moe, TASKS, **options)
    for a, b in zip(result.layers, expected.layers, strict=True):
        assert (a["committee"], a["candidates"]) == (b["committee"], b["candidates"])
        for name in MEASURES:
            assert a[name] == near(b[name])
    for name in ("contribution", "experts", "silhouette"):
        a, b = result.table(name), expected.table(name)
        for column in a.columns:
            if a[column].dtype == pl.Float64:
                assert a[column].to_numpy() == near(b[column].to_numpy()), (name, column)
            else:
                assert a[column].equals(b[column])
    assert result.table("samples")["id"].to_list() == [q.id for q in TASKS.questions]


def test_a_run_has_the_same_bytes_twice(moe, run, tmp_path):
    audit(moe, TASKS, tmp_path / "run", answers=True, token_budget=512)
    assert table_bytes(tmp_path / "run") == table_bytes(run)
    assert (tmp_path / "run/audit.json").read_bytes() == (run / "audit.json").read_bytes()


def test_a_complete_run_is_read_and_not_computed_again(moe, run, monkeypatch):
    before = {file: file.stat().st_mtime_ns for file in run.rglob("*") if file.is_file() and file.name != ".lock"}
    notes = []
    monkeypatch.setattr(
        "turnout.models.forward.capture.capture", lambda *_, **__: pytest.fail("the model was run again")
    )
    result = audit(moe, TASKS, run, answers=True, token_budget=512, listener=Recorder(notes))
    assert result.to_dict() == Audit.load(run).to_dict()
    assert len(notes) == 1
    assert "complete" in notes[0]
    assert {file: file.stat().st_mtime_ns for file in before} == before


def test_times_are_in_the_manifest_alone(run):
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["timings"]["capture_tokens"] == Audit.load(run).table("samples")["n_tokens"].sum()
    assert manifest["timings"]["capture_seconds"] > 0
    assert "seconds" not in (run / "audit.json").read_text()
    assert str(run.parent) not in (run / "audit.json").read_text() + (run / "manifest.json").read_text()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"scope": "all"}, "config.scope"),
        ({"token_budget": 600}, "config.token_budget"),
        ({"tasks": task_set(6)}, "tasks.questions"),
        ({"model": 1}, "the model.s weights as in the run that it contains"),
    ],
    ids=["config", "batching", "tasks", "model"],
)
def test_other_inputs_are_refused(moe, run, change, word):
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    other = read(random_model("olmoe", seed=1), tiny_tokenizer(), "tiny") if "model" in change else moe
    options = {"answers": True, "token_budget": 512} | {n: v for n, v in change.items() if n not in ("model", "tasks")}
    with pytest.raises(RunError, match=word):
        audit(other, change.get("tasks", TASKS), run, **options)
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before


def test_a_damaged_shard_is_named_and_computed_again(moe, run, tmp_path):
    broken = shutil.copytree(run, tmp_path / "run")
    for name in ("manifest.json", "audit.json"):
        (broken / name).unlink()
    shard = broken / "trace/part-00000.parquet"
    shard.write_bytes(shard.read_bytes()[:-100] + b"x" * 100)
    notes = []
    audit(moe, TASKS, broken, answers=True, token_budget=512, listener=Recorder(notes))
    assert len(notes) == 1
    assert "part-00000.parquet" in notes[0]
    assert "damaged" in notes[0]
    assert table_bytes(broken) == table_bytes(run)
    assert (broken / "audit.json").read_bytes() == (run / "audit.json").read_bytes()


def test_an_interrupted_audit_resumes(moe, run, tmp_path, monkeypatch):
    """Ctrl-C in the second shard: the first is kept, and only the missing one is captured."""
    from turnout.models.forward import capture as batches

    tasks, real, calls = task_set(60), batches.capture, []

    def interrupting(*args, **kwargs):
        calls.append(1)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(batches, "capture", interrupting)
    with pytest.raises(KeyboardInterrupt):
        audit(moe, tasks, tmp_path / "run", token_budget=256)
    assert [file.name for file in (tmp_path / "run/trace").glob("part-*")] == ["part-00000.parquet"]
    assert not (tmp_path / "run/manifest.json").exists()
    received = []
    audit(
        moe,
        tasks,
        tmp_path / "run",
        token_budget=256,
        listener=Recorder(on_progress=lambda *call: received.append(call)),
    )
    assert 0 < received[0][1] < received[0][2]  # progress starts where the first shard ended
    monkeypatch.undo()
    audit(moe, tasks, tmp_path / "unbroken", token_budget=256)
    assert table_bytes(tmp_path / "run") == table_bytes(tmp_path / "unbroken")


def test_nan_names_layer_and_question_and_leaves_nothing(moe, tmp_path):
    """A token with a NaN embedding makes the router scores of one question NaN."""
    model = random_model("olmoe")
    with torch.no_grad():
        model.get_input_embeddings().weight[token_ids(moe, "~")] = torch.nan
    spoilt = [*TASKS.questions[:5], Question("bad one", "days 0", "days", "what ~ is", ("a", "b"), 0)]
    tasks = TaskSet.of("spoilt", spoilt)
    with pytest.raises(ModelError, match=r"layer 0, question bad one: expected finite router scores, got NaN"):
        audit(read(model, tiny_tokenizer(), "tiny"), tasks, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="bad one"):
        audit(read(model, tiny_tokenizer(), "tiny"), tasks, tmp_path / "empty")
    assert list((tmp_path / "empty").iterdir()) == []


def test_texts_without_choices(moe):
    texts = [Question(f"t{i}", "prose", "prose", f"Line {i} of a page.") for i in range(4)]
    result = audit(moe, TaskSet.of("texts", texts))
    assert result.layers[0]["jaccard_mean"] is None
    with pytest.raises(TaskError, match="texts: expected questions with choices"):
        audit(moe, TaskSet.of("texts", texts), answers=True)
    mixed = audit(moe, TaskSet.of("mixed", [*texts, *TASKS.questions[:4]]), answers=True)
    assert mixed.accuracy["overall"]["questions"] == 4


def test_shots_are_placed_before_the_question(moe):
    result = audit(moe, TASKS, shots=2)
    zero = audit(moe, TASKS)
    assert (result.table("samples")["n_tokens"] > 2 * zero.table("samples")["n_tokens"].min()).all()
    with pytest.raises(TaskError, match="4 solved examples"):
        audit(moe, TASKS, shots=4)


def test_without_a_folder_no_file_remains(moe, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = audit(moe, TASKS)
    assert result.table("experts").height == 24
    assert len(list(tmp_path.iterdir())) == 1
    del result
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"kind": "gates"}, RecipeError, "kind: expected 'gate', 'frequency', 'weight' or 'released', got 'gates'"),
        ({"scope": "first"}, RecipeError, "scope: expected 'last' or 'all'"),
        ({"presence": 0}, RecipeError, "presence"),
        ({"min_specificity": 2}, RecipeError, "min_specificity"),
        ({"shots": -1}, RecipeError, "shots: expected 0 or more"),
        ({"token_budget": 0}, RecipeError, "token_budget"),
        ({"nope": 1}, TypeError, "unexpected keyword argument 'nope'"),
        ({"dtype": "bfloat16"}, ModelError, "dtype: expected none: the model is loaded already"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_invalid_options_are_refused(moe, options, error, message):
    with pytest.raises(error, match=message):
        audit(moe, TASKS, **options)


def test_a_model_without_a_tokenizer(moe):
    with pytest.raises(ModelError, match="expected a tokenizer"):
        audit(read(random_model("olmoe"), None, "tiny"), TASKS)


def test_a_live_model_and_its_tokenizer(run):
    result = audit(random_model("olmoe"), TASKS, tokenizer=tiny_tokenizer(), answers=True, token_budget=512)
    assert result.layers == Audit.load(run).layers


def test_a_stored_run_by_other_domains(run, tmp_path):
    by_subject = audit(run, out=tmp_path / "subjects", domains="subject")
    assert list(by_subject.tasks["domains"]) == ["numbers 0", "words 1", "days 0", "numbers 1", "words 0", "days 1"]
    assert by_subject.tasks["domain_map"] == "subject"
    assert by_subject.tasks["digest"] == Audit.load(run).tasks["digest"]
    mapping = {f"{d} {i}": ("half", "other")[i] for d in DOMAINS for i in (0, 1)}
    (tmp_path / "map.json").write_text(json.dumps(mapping))
    halves = audit(run, domains=tmp_path / "map.json")
    assert halves.tasks["domains"] == {"half": 12, "other": 12}
    del mapping["days 1"]
    (tmp_path / "map.json").write_text(json.dumps(mapping))
    with pytest.raises(TaskError, match=r"question q\d+: expected a subject of the domain map map.json"):
        audit(run, domains=tmp_path / "map.json")


def test_captured_options_of_a_stored_run_cannot_change(run, tmp_path):
    for name, value in {"answers": False, "shots": 1, "token_budget": 64, "padding": "left"}.items():
        with pytest.raises(RecipeError, match=f"{name}: expected"):
            audit(run, **{name: value})
    for name, value in {"tasks": "mmlu", "limit": 3, "dtype": "float32"}.items():
        with pytest.raises(RecipeError, match=f"{name}: expected none"):
            audit(run, **{name: value})
    assert audit(run, config=AuditConfig(answers=True, token_budget=512)).layers == Audit.load(run).layers
    with pytest.raises(RunError, match=r'config\.scope = "last".*got "all"'):
        audit(run, out=run, scope="all")
    audit(run, out=tmp_path / "again", scope="all")
    with pytest.raises(RunError, match=r"meta\.json"):
        audit(tmp_path / "again")  # it holds no trace


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"tasks": 3}, TaskError, "tasks: expected one of mmlu, .*, a folder or a TaskSet, got 3"),
        ({"model": 3}, ModelError, "model: expected a checkpoint's folder, a hub id, a MoE or .*, got 3"),
        ({"out": 3}, RecipeError, "out: expected a folder, got 3"),
        ({"domains": 3}, TaskError, "domains: expected a domain map's name or file, got 3"),
        ({"limit": "3"}, RecipeError, "limit: expected a whole number, got '3'"),
        ({"budgets": "4,x"}, RecipeError, r"budgets\.1: expected a whole number, got 'x'"),
        ({"budgets": (4, 2.5)}, RecipeError, r"budgets\.1: expected a whole number, got 2\.5"),
        ({"shots": "two"}, RecipeError, "shots: expected a whole number, got 'two'"),
        ({"token_budget": 2.5}, RecipeError, "token_budget: expected a whole number, got 2.5"),
        ({"seed": True}, RecipeError, "seed: expected a whole number, got 'True'"),
        ({"presence": "high"}, RecipeError, "presence: expected a number, got 'high'"),
        ({"answers": "perhaps"}, RecipeError, "answers: expected true or false, got 'perhaps'"),
    ],
)
def test_an_argument_of_another_type_is_a_one_line_error(moe, given, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        audit(**{"model": moe, "tasks": TASKS, **given})


def test_numbers_may_be_given_as_on_the_command_line():
    assert AuditConfig(budgets="2, 4", shots="1") == AuditConfig(budgets=(2, 4), shots=1)
    assert AuditConfig(budgets=[2, 4]) == AuditConfig(budgets=(2, 4))
    with pytest.raises(RecipeError, match="nope: expected a known key"):
        AuditConfig.of(nope=1)


def test_former_arguments_still_work_with_a_warning(moe, tmp_path):
    notes = []
    audit(moe, TASKS, tmp_path / "run")
    with pytest.warns(DeprecationWarning, match="deprecated argument progress=.* use listener="):
        audit(moe, TASKS, tmp_path / "run", note=notes.append)
    assert len(notes) == 1


def test_a_long_prompt_is_named_by_its_question(moe):
    long = replace(TASKS.questions[0], text="far " * 500)
    with pytest.raises(TaskError, match=f"^question {long.id}: expected a prompt of at most"):
        audit(moe, replace(TASKS, questions=(long,)))
