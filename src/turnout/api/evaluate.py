"""`turnout.evaluate`: lm-evaluation-harness on a MoE, with the routing of its prompts recorded by task."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnout.api.deprecated import former_names
from turnout.api.models import resolve_moe
from turnout.api.pages import draw_page
from turnout.auditing.config import AuditConfig, Kind, Padding, Scope
from turnout.evaluating.config import EvaluateConfig
from turnout.listener import Listener
from turnout.runs.opening import open_run

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from turnout.evaluating.result import Evaluation
    from turnout.models.wrap.anatomy import MoE


@former_names()
def evaluate(
    model: "MoE | PreTrainedModel | str | Path | None",
    tasks: str | Sequence[str],
    out: str | Path | None = None,
    *,
    include_path: str | Path | None = None,
    limit: int | None = None,
    num_fewshot: int | None = None,
    batch_size: int = 1,
    apply_chat_template: bool = False,
    kind: Kind = "gate",
    scope: Scope = "last",
    presence: float = 0.8,
    min_specificity: float | None = None,
    seed: int = 0,
    budgets: Sequence[int] | str = (),
    token_budget: int = 1024,
    padding: Padding = "right",
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    adapter: str | Path | None = None,
    dtype: "torch.dtype | str | None" = None,
    device: "torch.device | str | None" = "auto",
    device_map: str | dict[str, Any] | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    listener: Listener | None = None,
) -> "Evaluation":
    """Run tasks of lm-evaluation-harness on a MoE; record and audit the routing of their prompts.

    >>> evaluation = turnout.evaluate("path/to/checkpoint", "arc_easy,hellaswag", out="run")
    >>> evaluation.results["results"]["arc_easy"]["acc,none"], evaluation.audit.layers[0]["committee"]

    Args:
        model: a checkpoint folder or hub id, a MoE, a live transformers model (with `tokenizer=`), or None for the
            embedded model.
        tasks: names of tasks, groups or tags, or task YAML files; one string may contain several, separated by commas.
        out: the run's folder, which `turnout audit`, `report` and `compare` read too; None: a temporary one.
        include_path: a folder of task YAML files of your own, which take precedence over the harness's.
        limit: at most this many documents of each task.
        num_fewshot: solved examples before each document; None: as the task says.
        batch_size: requests in a forward of the harness.
        apply_chat_template: ask through the tokenizer's chat template.
        kind: as in `turnout.audit`, like the settings that follow.
        scope: which tokens are read.
        presence: least share of domains of a candidate.
        min_specificity: leave out domains of lower mean silhouette.
        seed: of the resamples, permutations, rotations and halves.
        budgets: other numbers of chosen experts to measure.
        token_budget: most tokens of a batch of the capture, padding included.
        padding: side on which a batch is padded.
        tokenizer: of a live model.
        adapter: trained routers to load into a checkpoint.
        dtype: of the weights; None is the checkpoint's own.
        device: "auto" (CUDA if there is one, then MPS, else CPU), or a torch device.
        device_map: passed to accelerate instead of `device`.
        revision: branch, tag or commit of a hub id.
        trust_remote_code: run Python code of the checkpoint.
        listener: receives progress and notes.

    Returns:
        `.results` (the harness's own), `.audit` (the routing, as `turnout.audit` returns it), `.frame()`, `.to_dict()`.

    Raises:
        TurnoutError: one line that names what does not fit: the model, a task, its data, or the folder.
    """
    from turnout.auditing.prompts import Prompts
    from turnout.auditing.result import Audit
    from turnout.auditing.run import KEEP
    from turnout.auditing.run import run as run_audit
    from turnout.evaluating.result import EVAL_FILE, Evaluation
    from turnout.evaluating.run import request
    from turnout.evaluating.run import run as run_harness

    listener = listener or Listener()
    config = EvaluateConfig(
        limit=limit, num_fewshot=num_fewshot, batch_size=batch_size, apply_chat_template=apply_chat_template
    )
    reading = AuditConfig(
        kind=kind,
        scope=scope,
        presence=presence,
        min_specificity=min_specificity,
        seed=seed,
        budgets=budgets,  # type: ignore[arg-type]  # validated: a list or "4,8" becomes a tuple
        token_budget=token_budget,
        padding=padding,
    )
    moe = resolve_moe(
        model,
        tokenizer,
        listener,
        adapter=adapter,
        dtype=dtype,
        device=device,
        device_map=device_map,
        revision=revision,
        trust_remote_code=trust_remote_code,
    )
    described = moe.describe()
    requested = request(tasks, include_path, config)
    inputs = {
        "verb": "eval",
        "model": {key: value for key, value in described.items() if key not in ("id", "revision", "notes")},
        "tasks": requested.described,
        "domains": requested.objects.domain_of,
        "settings": config.describe(),
        "config": reading.describe(),
    }
    with open_run(out, inputs, listener, keep=(*KEEP, EVAL_FILE)) as run:
        if not run.complete:
            asked = run_harness(moe, requested, config, run)
            run_audit(moe, asked.tasks, Prompts(asked.ids, None), reading, run, listener, model=described)
    draw_page(run)
    result = run.load(Evaluation)
    result.audit = Audit.load(run.path)
    return result
