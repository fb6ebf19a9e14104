"""Public functions that put rooms together: what the command line and scripts call alike."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnout import embedded
from turnout.report import write_report

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from turnout.auditing import Audit
    from turnout.models.anatomy import MoE


def audit(
    model: "MoE | PreTrainedModel | str | Path | None" = None,
    tasks: Any = None,
    out: str | Path | None = None,
    **options: Any,
) -> "Audit":
    """Ask a MoE questions and measure, layer by layer, which experts do the routing; with `out`, draw the page too.

    >>> audit = turnout.audit("path/to/checkpoint", tasks="mmlu-dev", out="run")
    >>> audit.layers[0]["committee"]

    Args:
        model: a checkpoint's folder or hub id, a MoE, a live transformers model (with `tokenizer=`), the folder of a
            complete run (measured again from its trace), or None for the embedded model.
        tasks: "mmlu", "mmlu-dev" (default), "worlds", a folder, a JSONL or Parquet file, or a TaskSet.
        out: the run's folder; None keeps nothing on disk.
        **options: see `turnout.auditing.audit`: domains, limit, kind, scope, presence, answers, shots, dtype, device, …

    Returns:
        The stored result: `.layers`, `.overall`, `.frame()`, `.to_dict()`.

    Raises:
        TurnoutError: one line that says what could not be.
    """
    from turnout.auditing import audit as run

    result = run(embedded.model_path() if model is None else model, tasks, out, **options)
    if out is not None and not (Path(out) / "report.html").exists():
        write_report(Path(out))
    return result
