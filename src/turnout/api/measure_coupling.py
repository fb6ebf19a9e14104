"""`turnout.measure_coupling`: how far each router row stands for its expert, without training (arXiv 2512.23447)."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnout.api.deprecated import former_names
from turnout.api.models import path_of, resolve_moe
from turnout.api.pages import draw_page
from turnout.coupling.config import MeasureConfig, Scope
from turnout.errors import RecipeError
from turnout.listener import Listener
from turnout.runs.opening import open_run
from turnout.tasks.load import load_tasks
from turnout.tasks.question import TaskSet

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from turnout.coupling.result import CouplingResult
    from turnout.models.wrap.anatomy import MoE


@former_names()
def measure_coupling(
    model: "MoE | PreTrainedModel | str | PathLike[str] | None" = None,
    tasks: TaskSet | str | Path | None = None,
    out: str | Path | None = None,
    *,
    domains: str | Path | None = None,
    limit: int | None = None,
    alphas: Sequence[float] | str = (1.0, 2.0, 3.0, 4.0, 5.0),
    permutations: int = 9999,
    resamples: int = 2000,
    scope: Scope = "all",
    token_budget: int = 1024,
    seed: int = 0,
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    adapter: str | Path | None = None,
    dtype: "torch.dtype | str | None" = None,
    device: "torch.device | str | None" = "auto",
    device_map: str | dict[str, Any] | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    listener: Listener | None = None,
) -> "CouplingResult":
    """Measure, layer by layer, how far each router row stands for its own expert; with `out`, draw the page.

    Only routers and gate matrices of a checkpoint are read, one expert at a time, and no model is built, unless there
    are `tasks` or an `adapter`. A run that was killed resumes; a complete one is read, not computed again.

    >>> result = turnout.measure_coupling("path/to/checkpoint", out="run")
    >>> result.frame(), result.table("coupling_matrix")

    Args:
        model: a checkpoint folder or hub id, a MoE, a live transformers model, or None for the embedded model.
        tasks: questions or texts, as in `turnout.audit`, whose tokens are read too; the model is loaded then.
        out: the run's folder; None: a temporary one, removed with the result.
        domains: domain map of the tasks, where the default map lacks their subjects.
        limit: at most this many questions of each subject.
        alphas: values of α at which the ERC loss is computed.
        permutations: random pairings of router rows with experts, the null distribution.
        resamples: bootstrap draws of each interval.
        scope: tokens of a question that are read: "all", or the "last".
        token_budget: most tokens of a batch, padding included.
        seed: seed of the pairings and resamples.
        tokenizer: of a live model.
        adapter: trained routers to load into a checkpoint; the model is loaded then.
        dtype: of a loaded model's weights; None is the checkpoint's own.
        device: of a loaded model: "auto" (CUDA if there is one, then MPS, else CPU), or a torch device.
        device_map: passed to accelerate instead of `device`.
        revision: branch, tag or commit of a hub id.
        trust_remote_code: run Python code of a checkpoint that is loaded.
        listener: receives progress, and notes of pieces that are computed again.

    Returns:
        The stored result: `.layers`, `.overall`, `.frame()`, `.table(name)`, `.to_dict()`.

    Raises:
        TurnoutError: one line that names what does not fit: the model, the questions, the settings or the folder.
    """
    from turnout.coupling.norms import LayerWeights, live_layers
    from turnout.coupling.result import CouplingResult
    from turnout.coupling.run import KEEP, Prompted
    from turnout.coupling.run import run as run_measurement
    from turnout.models.checkpoint.stored import read_stored

    listener = listener or Listener()
    config = MeasureConfig(
        alphas=alphas,  # type: ignore[arg-type]  # validated: a list or "1,2" becomes a tuple
        permutations=permutations,
        resamples=resamples,
        scope=scope,
        token_budget=token_budget,
        seed=seed,
    )
    loading: dict[str, Any] = {
        "dtype": dtype,
        "device": device,
        "device_map": device_map,
        "trust_remote_code": trust_remote_code,
    }
    questions = tasks if isinstance(tasks, TaskSet | None) else load_tasks(tasks, domains=domains, limit=limit)
    path = None  # of the checkpoint whose weight files are read
    if adapter is None and (model is None or isinstance(model, str | PathLike)):
        path = path_of(model)
    if path is not None and questions is None:
        _refuse_without_a_model(loading)
    moe = prompted = None
    if path is None or questions is not None:
        moe = resolve_moe(model, tokenizer, listener, adapter=adapter, revision=revision, **loading)
    if moe is not None and questions is not None:
        prompted = Prompted.of(moe, questions)
    weights: list[LayerWeights]
    if path is not None:
        checkpoint = read_stored(path, revision)
        weights, described = [*checkpoint.layers], checkpoint.describe()
    else:
        assert moe is not None  # loaded above
        weights, described = [*live_layers(moe)], moe.describe()
    inputs = {
        "verb": "coupling",
        "model": {key: value for key, value in described.items() if key not in ("id", "revision", "notes")},
        "config": config.describe(),
        "tasks": prompted and prompted.describe(),
    }
    with open_run(out, inputs, listener, keep=KEEP) as run:
        if not run.complete:
            run_measurement(weights, prompted, config, run, listener, model=described)
    draw_page(run)
    return run.load(CouplingResult)


def _refuse_without_a_model(loading: dict[str, Any]) -> None:
    """Raise RecipeError for an argument that loads a model where only files are read."""
    for name, value in loading.items():
        if value and str(value) != "auto":
            expected = "none without tasks: weights are read from the files"
            raise RecipeError(name, expected=expected, received=value)
