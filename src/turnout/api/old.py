"""Public functions that put rooms together: what the command line and scripts call alike."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnout import embedded
from turnout.report import write_report

if TYPE_CHECKING:
    from transformers import PreTrainedModel

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
