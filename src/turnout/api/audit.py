"""`turnout.audit`: which experts do the routing, layer by layer (CommitteeAudit, arXiv 2601.03425)."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnout.api.deprecated import former_names
from turnout.api.models import resolve_moe
from turnout.api.pages import draw_page
from turnout.auditing.config import AuditConfig, Kind, Padding, Scope
from turnout.errors import RecipeError, TaskError
from turnout.listener import Listener
from turnout.runs.opening import open_run
from turnout.tasks.load import NAMES, load_tasks
from turnout.tasks.question import Question, TaskSet

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from turnout.auditing.result import Audit
    from turnout.models.wrap.anatomy import MoE

DEFAULT_TASKS = "mmlu-dev"


@former_names()
def audit(
    model: "MoE | PreTrainedModel | str | Path | None" = None,
    tasks: TaskSet | str | Path | None = None,
    out: str | Path | None = None,
    *,
    domains: str | Path | None = None,
    limit: int | None = None,
    kind: Kind | None = None,
    scope: Scope | None = None,
    presence: float | None = None,
    min_specificity: float | None = None,
    answers: bool | None = None,
    shots: int | None = None,
    seed: int | None = None,
    budgets: Sequence[int] | str | None = None,
    token_budget: int | None = None,
    padding: Padding | None = None,
    config: AuditConfig | None = None,
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    adapter: str | Path | None = None,
    dtype: "torch.dtype | str | None" = None,
    device: "torch.device | str | None" = "auto",
    device_map: str | dict[str, Any] | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    listener: Listener | None = None,
) -> "Audit":
    """Measure, layer by layer, which experts of a MoE do the routing of some questions; with `out`, draw the page.

    A run that was killed resumes; a complete one is read, not computed again.

    >>> audit = turnout.audit("path/to/checkpoint", tasks="mmlu-dev", out="run")
    >>> audit.layers[0]["committee"]

    Args:
        model: a checkpoint folder or hub id, a MoE, a live transformers model (with `tokenizer=`), None for the
            embedded model; or the folder of a complete run, whose stored trace is measured again without a model.
        tasks: "mmlu", "mmlu-dev" (default), "worlds", a folder, a JSONL or Parquet file, or a TaskSet.
        out: the run's folder; None: a temporary one, removed with the result.
        domains: "mmlu-9", "mmlu-4", "subject" or a map's file. None: as the questions state, else mmlu-9.
        limit: at most this many questions of each subject.
        kind: which reading of an expert's contribution ranks the experts; "gate" by default.
        scope: "last" (default), the prompt's last token, or "all", the mean over its tokens.
        presence: least share of domains whose first K contain a candidate; 0.8 by default.
        min_specificity: leave out domains whose mean silhouette over layers is below this.
        answers: also read the log-probabilities of the answer letters, for accuracy.
        shots: solved examples before each question; 0 by default.
        seed: of the resamples, permutations, rotations and halves; 0 by default.
        budgets: other numbers of chosen experts to measure, such as (4, 8, 16).
        token_budget: most tokens of a batch, padding included; 1024 by default.
        padding: side on which a batch is padded; no figure depends on it.
        config: all of the settings above in one object; single ones take precedence. A setting that is neither given
            here nor above is the default, or that of the stored run that is measured again.
        tokenizer: of a live model.
        adapter: trained routers to load into a checkpoint: the run of `turnout align`, or its adapter folder.
        dtype: of the weights; None is the checkpoint's own.
        device: "auto" (CUDA if there is one, then MPS, else CPU), or a torch device.
        device_map: passed to accelerate instead of `device`.
        revision: branch, tag or commit of a hub id.
        trust_remote_code: run Python code of the checkpoint.
        listener: receives progress and notes.

    Returns:
        The stored result: `.layers`, `.overall`, `.frame()`, `.table(name)`, `.to_dict()`.

    Raises:
        TurnoutError: one line that names what does not fit: the model, the questions, the settings or the folder.
    """
    from turnout.auditing.remeasure import is_run, remeasurement
    from turnout.auditing.result import Audit
    from turnout.auditing.run import KEEP
    from turnout.auditing.run import run as run_audit

    listener = listener or Listener()
    options = {
        "kind": kind,
        "scope": scope,
        "presence": presence,
        "min_specificity": min_specificity,
        "answers": answers,
        "shots": shots,
        "seed": seed,
        "budgets": budgets,
        "token_budget": token_budget,
        "padding": padding,
    }
    loading: dict[str, Any] = {
        "adapter": adapter,
        "dtype": dtype,
        "device": device,
        "device_map": device_map,
        "revision": revision,
        "trust_remote_code": trust_remote_code,
    }
    _check_types(tasks, out, domains, limit)
    if isinstance(model, str | Path) and is_run(Path(model)):
        _refuse_for_a_run({"tasks": tasks, "limit": limit, "tokenizer": tokenizer, **loading})
        again = remeasurement(model, domains, (config.describe() if config else {}) | _given(options))
        with open_run(out, again.inputs, listener) as run:
            if not run.complete:
                again.run(run, listener)
    else:
        config = (config or AuditConfig()).replace(**options)
        task_set = (
            tasks if isinstance(tasks, TaskSet) else load_tasks(tasks or DEFAULT_TASKS, domains=domains, limit=limit)
        )
        examples = _examples(tasks or DEFAULT_TASKS, domains) if config.shots else None
        moe = resolve_moe(model, tokenizer, listener, **loading)
        prompts, inputs, described = _asked(moe, task_set, config, examples)
        with open_run(out, inputs, listener, keep=KEEP) as run:
            if not run.complete:
                run_audit(moe, task_set, prompts, config, run, listener, model=described)
    draw_page(run)
    return run.load(Audit)


def _asked(
    moe: "MoE", tasks: TaskSet, config: AuditConfig, examples: Sequence[Question] | None
) -> tuple[Any, Any, Any]:
    """The prompts, what identifies the run, and the model's description."""
    from turnout.auditing.budgets import checked_budgets
    from turnout.auditing.prompts import encode_all

    if config.budgets:
        checked_budgets((layer.n_experts for layer in moe.layers), config.budgets)
    prompts = encode_all(moe, tasks, config, examples)
    described = moe.describe()
    inputs = {
        "verb": "audit",
        "model": {
            key: value for key, value in described.items() if key not in ("id", "revision", "notes")
        },  # not where it is
        "tasks": {"digest": tasks.digest, "questions": len(tasks.questions), "prompts": prompts.digest()},
        "config": config.describe(),
    }
    return prompts, inputs, described


def _examples(tasks: TaskSet | str | Path, domains: str | Path | None) -> Sequence[Question] | None:
    """The pool of solved examples; None: the questions themselves, each without itself."""
    if isinstance(tasks, TaskSet):
        return None
    if tasks == DEFAULT_TASKS or Path(tasks).is_file():
        return load_tasks(tasks, domains=domains).questions  # all of them: `limit` is on the questions that are asked
    return load_tasks(tasks, domains=domains, split="train" if tasks == "worlds" else "dev").questions


def _check_types(tasks: object, out: object, domains: object, limit: object) -> None:
    """Raise one line for an argument whose type would only fail later, and less clearly."""
    if not isinstance(tasks, TaskSet | str | Path | None):
        expected = f"one of {', '.join(NAMES)}, a file, a folder or a TaskSet"
        raise TaskError("tasks", expected=expected, received=repr(tasks))
    if not isinstance(domains, str | Path | None):
        raise TaskError("domains", expected="a domain map's name or file", received=repr(domains))
    if not isinstance(out, str | Path | None):
        raise RecipeError("out", expected="a folder", received=repr(out))
    if not isinstance(limit, int | None):
        raise RecipeError("limit", expected="a whole number", received=repr(limit))


def _refuse_for_a_run(arguments: dict[str, Any]) -> None:
    for name, value in _given(arguments).items():
        if value and (name, value) != ("device", "auto"):
            raise RecipeError(name, expected="none: a stored run is measured without its model", received=value)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
