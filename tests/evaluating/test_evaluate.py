"""`turnout.evaluate` on small tasks of every kind: results equal the harness's, the trace equals an audit's."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from turnout import evaluate
from turnout.auditing import Audit
from turnout.errors import RecipeError, TaskError
from turnout.evaluating import EvaluateConfig, Evaluation
from turnout.models.forward.capture import capture
from turnout.runs import RunFolder, verify

TASKS = ["tiny_choice", "tiny_pairs", "tiny_generate", "tiny_text"]
PAD = 258  # of the tiny tokenizer
pytestmark = pytest.mark.usefixtures("few_draws")


@pytest.fixture(scope="module")
def evaluation(evaluated) -> Evaluation:
    return Evaluation.load(evaluated[0])


@pytest.fixture(scope="module")
def alone(checkpoint, task_folder) -> tuple[dict, dict[int, list]]:
    """lm-evaluation-harness alone on a copy of the model, and the choices of each router in each forward."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(checkpoint("olmoe"))
    forwards: dict[int, list] = {0: [], 1: [], 2: []}
    ids: list[torch.Tensor] = []
    model.register_forward_pre_hook(lambda m, args, kw: ids.append(kw.get("input_ids", *args)), with_kwargs=True)
    for number, layer in enumerate(model.model.layers):
        layer.mlp.gate.register_forward_hook(
            lambda m, a, out, number=number: forwards[number].append((ids[-1], out[2].view(*ids[-1].shape, -1)))
        )
    results = simple_evaluate(
        model=HFLM(pretrained=model, tokenizer=AutoTokenizer.from_pretrained(checkpoint("olmoe")), batch_size=2),
        tasks=TASKS,
        task_manager=TaskManager(include_path=str(task_folder), include_defaults=False),
        num_fewshot=1,
        batch_size=2,
    )
    return results, forwards


def test_results_equal_those_of_the_harness(evaluation, alone):
    results, _ = alone
    for key in ("results", "group_subtasks", "versions", "n-shot", "higher_is_better", "n-samples"):
        assert evaluation.results[key] == json.loads(json.dumps(results[key])), key
    assert "samples" not in evaluation.results
    assert set(results) - {"samples"} == set(evaluation.results)


def test_documents_have_their_own_figures(evaluation, alone):
    table = RunFolder.read(evaluation.path).read_table("documents")
    for task, metric in (("tiny_choice", "acc"), ("tiny_pairs", "acc"), ("tiny_generate", "exact_match")):
        mine = table.filter((table["task"] == task) & (table["metric"] == metric))["value"].to_list()
        assert mine == [float(sample[metric]) for sample in alone[0]["samples"][task]]


def test_one_sample_a_prompt_with_its_task_as_domain(evaluation):
    samples = RunFolder.read(evaluation.path).trace().samples()
    counts = {name: n for name, n in samples["domain"].value_counts().rows()}  # noqa: C416
    assert counts == {"tiny_choice": 6, "tiny_pairs": 8, "tiny_generate": 6, "tiny_text": 3}
    assert samples["subject"].to_list() == samples["domain"].to_list()
    assert list(Audit.load(evaluation.path).tasks["domains"]) == TASKS
    assert samples["id"][0] == "tiny_choice/0"


def test_the_trace_equals_a_capture_of_the_same_prompts(evaluation, moe):
    trace = RunFolder.read(evaluation.path).trace()
    ids, offsets = trace.tokens()
    for i in range(0, len(offsets) - 1, 4):
        prompt = ids[offsets[i] : offsets[i + 1]].tolist()
        for layer, found in zip(trace.layers, capture(moe, [prompt]).layers, strict=True):
            chosen, starts = trace.chosen(layer.layer)
            assert np.array_equal(chosen[starts[i] : starts[i + 1]], found.chosen_TK.numpy())
            np.testing.assert_allclose(trace.scores(layer.layer, "last")[i], found.scores_BE[0], atol=1e-5)


def test_the_trace_equals_the_choices_during_the_harness_run(evaluation, alone):
    trace = RunFolder.read(evaluation.path).trace()
    ids, offsets = trace.tokens()
    matched = 0
    for number, forwards in alone[1].items():
        chosen, _ = trace.chosen(number)
        for start, end in pairwise(offsets.tolist()):
            found = _where(forwards, ids[start:end])
            if found is None:
                continue
            matched += 1
            assert [set(row) for row in found.tolist()] == [set(row) for row in chosen[start:end].tolist()]
    assert matched == 3 * (len(offsets) - 1)


def _where(forwards: list, tokens: np.ndarray) -> torch.Tensor | None:
    """Choices of a router for `tokens` in the first forward with them, at the start of a row or at its padded end."""
    wanted = torch.from_numpy(tokens.astype(np.int64))
    for ids, chosen in forwards:
        for row, of_row in zip(ids, chosen, strict=True):
            for place in {0, max(0, len(row) - len(wanted))}:
                only_pads_before = bool((row[:place] == PAD).all())
                if only_pads_before and torch.equal(row[place : place + len(wanted)], wanted):
                    return of_row[place : place + len(wanted)]
    return None


def test_the_run_is_sound(evaluation):
    assert verify(evaluation.path) == []
    assert (evaluation.path / "report.html").is_file()


def test_a_frame_has_one_row_a_metric(evaluation):
    frame = evaluation.frame()
    assert frame["task"].to_list() == ["tiny_choice", "tiny_choice", "tiny_pairs", "tiny_generate", "tiny_text"]
    assert frame["metric"].to_list() == ["acc", "acc_norm", "acc", "exact_match", "bits_per_byte"]


def test_a_run_killed_after_the_harness_resumes_without_it(moe, task_folder, tmp_path, evaluation, monkeypatch):
    settings = {"include_path": task_folder, "num_fewshot": 1, "batch_size": 2}

    def killed(*_: object, **__: object):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("turnout.models.forward.capture.capture", killed)
        with pytest.raises(KeyboardInterrupt):
            evaluate(moe, TASKS, tmp_path / "run", **settings)
    assert not any(m._forward_hooks for m in moe.model.modules())
    monkeypatch.setattr("turnout.evaluating.run.run_harness", killed)
    again = evaluate(moe, TASKS, tmp_path / "run", **settings)
    assert again.results["results"] == evaluation.results["results"]
    for name in ("documents", "prompts"):
        first, second = (Path(e.path, "tables", f"{name}.parquet").read_bytes() for e in (evaluation, again))
        assert first == second, name
    first, second = (RunFolder.read(e.path).trace() for e in (evaluation, again))
    assert all(np.array_equal(first.scores(x.layer), second.scores(x.layer)) for x in first.layers)


@pytest.mark.parametrize("lost", ["eval.json", "tables/prompts.parquet", "tables/documents.parquet"])
def test_the_harness_runs_again_if_a_part_of_its_output_is_missing(moe, task_folder, tmp_path, lost):
    first = evaluate(moe, "tiny_pairs", tmp_path / "run", include_path=task_folder, limit=1)
    for name in (lost, "manifest.json"):
        (tmp_path / "run" / name).unlink()
    again = evaluate(moe, "tiny_pairs", tmp_path / "run", include_path=task_folder, limit=1)
    assert again.results["results"] == first.results["results"]
    assert verify(tmp_path / "run") == []


@pytest.mark.parametrize(
    ("asked", "domains", "subjects"),
    [
        ("tiny_group", {"tiny_choice": 2, "tiny_pairs": 4}, [1, 1]),
        (["tiny_group", "tiny_text"], {"tiny_group": 6, "tiny_text": 3}, [2, 1]),
    ],
)
def test_a_group_is_expanded_if_alone_and_one_domain_otherwise(moe, task_folder, tmp_path, asked, domains, subjects):
    found = evaluate(moe, asked, tmp_path / "run", include_path=task_folder, limit=2)
    assert found.results["groups"]["tiny_group"]["acc,none"] is not None
    described = found.audit.tasks
    assert described["domains"] == domains
    assert list(described["subjects"].values()) == subjects


def test_a_task_file_by_its_path(moe, task_folder, tmp_path):
    found = evaluate(moe, str(task_folder / "pairs.yaml"), tmp_path / "run", limit=2)
    assert found.audit.tasks["domains"] == {"tiny_pairs": 4}


def test_a_model_in_training_mode_is_left_in_training_mode(checkpoint, task_folder, tmp_path, moe):
    moe.model.train()
    evaluate(moe, "tiny_pairs", tmp_path / "run", include_path=task_folder, limit=1)
    assert all(module.training for module in moe.model.modules())
    moe.model.eval()


def test_settings_that_do_not_fit_are_refused():
    for wrong in ({"limit": 0}, {"num_fewshot": -1}, {"batch_size": 0}, {"limit": "three"}, {"batch_size": True}):
        with pytest.raises(RecipeError, match=next(iter(wrong))):
            EvaluateConfig(**wrong)


@pytest.mark.parametrize("tasks", [3, None, ["tiny_text", 3]])
def test_tasks_that_are_not_names_are_refused(moe, tmp_path, tasks):
    with pytest.raises(TaskError, match=r"^tasks: expected names of tasks"):
        evaluate(moe, tasks, tmp_path / "run")
