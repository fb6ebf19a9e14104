"""Public functions that put rooms together: what the command line and scripts call alike."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnout import embedded
from turnout.report import write_report

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from turnout.aligning import Alignment
    from turnout.coupling import CouplingResult
    from turnout.models.wrap.anatomy import MoE


def measure_coupling(
    model: "MoE | PreTrainedModel | str | Path | None" = None,
    tasks: Any = None,
    out: str | Path | None = None,
    **options: Any,
) -> "CouplingResult":
    """How far each router row stands for its expert, layer by layer, without training; with `out`, draw the page too.

    >>> found = turnout.measure_coupling("path/to/checkpoint", out="run")
    >>> found.frame(), found.table("coupling_matrix")

    Args:
        model: a checkpoint's folder or hub id, of which only routers and gate matrices are read, one expert at a time;
            a MoE, a live transformers model, or None for the embedded model.
        tasks: questions or texts whose tokens are looked at too, as `audit` takes them; the model is loaded then.
        out: the run's folder; None keeps nothing on disk.
        **options: alphas, permutations, resamples, scope, token_budget, seed (`turnout.coupling.MeasureConfig`);
            tokenizer, domains, limit, progress, note; dtype, device, device_map, revision, trust_remote_code.

    Returns:
        `.layers`, `.overall`, `.frame()`, `.table(name)`, `.to_dict()`.

    Raises:
        TurnoutError: one line that says what could not be.
    """
    from turnout.coupling import measure_coupling as measured

    result = measured(embedded.model_path() if model is None else model, tasks, out, **options)
    _draw_page(out)
    return result


def _draw_page(out: str | Path | None) -> None:
    """A run's report.html, unless there is one, or no folder to keep it in."""
    if out is not None and not (Path(out) / "report.html").exists():
        write_report(Path(out))


def align(
    model: "MoE | PreTrainedModel | str | Path",
    tasks: Any,
    evaluation: Any = None,
    out: str | Path | None = None,
    **options: Any,
) -> "Alignment":
    """Train the last layers' routers so that like questions route alike (RoMA), or by a baseline; draw the page too.

    >>> found = turnout.align("path/to/checkpoint", "train.jsonl", "test.jsonl", out="run")
    >>> found.frame()
    >>> moe = turnout.load("path/to/checkpoint", adapter="run")

    Args:
        model: a checkpoint's folder or hub id, a MoE, or a live transformers model (with `tokenizer=`).
        tasks: questions to train on, with answers: a name, a folder, a JSONL or Parquet file, or a TaskSet.
        evaluation: questions to be asked before and after; those that are asked there too are not trained on.
        out: the run's folder, with the router adapter; None keeps nothing on disk.
        **options: see `turnout.aligning.align`: method, layers, tokens, k, sigma, weight, epochs, seed, device, …

    Returns:
        The stored result: `.accuracy`, `.manifold`, `.frame()`, `.table("curves")`, `.to_dict()`.

    Raises:
        TurnoutError: one line that says what could not be.
    """
    from turnout.aligning import align as run

    result = run(model, tasks, evaluation, out, **options)
    if out is not None and not (Path(out) / "report.html").exists():
        write_report(out)
    return result
