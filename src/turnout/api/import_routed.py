"""`turnout.import_routed`: routed-expert ids recorded by another engine, as a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from turnout.api.deprecated import former_names
from turnout.exchange.config import ImportConfig
from turnout.listener import Listener
from turnout.runs.opening import open_run

if TYPE_CHECKING:
    from turnout.exchange.importing import Imported


@former_names()
def import_routed(
    file: str | Path,
    out: str | Path,
    *,
    experts: int,
    layers: Sequence[int] | str | None = None,
    shape: tuple[int, int] | str | None = None,
    shared: int = 0,
    prompt_only: bool = False,
    model: str | None = None,
    samples: str | Path | None = None,
    domains: str | Path | None = None,
    listener: Listener | None = None,
) -> "Imported":
    """Read the chosen experts that vLLM, SGLang or another engine recorded into a run.

    Everything is checked before anything is written. `turnout.audit(out, kind="frequency")` measures the run.

    >>> turnout.import_routed("routed.npz", "imported", experts=64)
    >>> turnout.audit("imported", out="audit", kind="frequency")

    Args:
        file: npy, npz, Parquet or JSONL of ids, [tokens, layers, K] a sample.
        out: the run's folder.
        experts: routed experts of a layer, E.
        layers: the decoder layers' own numbers, one for each layer of the array, or fewer: those to keep; 0, 1, 2, … by
            default.
        shape: (L, K) of numbers that are stored without their shape.
        shared: shared experts of a layer.
        prompt_only: leave the answer's tokens out; each sample must have `prompt_tokens`.
        model: the model's name; the file's name by default.
        samples: JSONL or Parquet, a row a sample: id, subject, domain, tokens, answer, prompt_tokens; matched by id
            where the file has ids too, else by order. Its fields take precedence over the file's own.
        domains: a domain map that assigns subjects; None: as the samples state, else mmlu-9, else one domain.
        listener: receives progress, and notes of what was left out.

    Returns:
        Numbers of samples, tokens, layers and experts.

    Raises:
        RunError: a file, sample, token or layer that does not fit; `out` contains something else.
        RecipeError: settings that do not fit the file.
        TaskError: a subject that the domain map does not contain.
    """
    from turnout.exchange.importing import Recording, run

    listener = listener or Listener()
    config = ImportConfig(
        experts=experts,
        layers=layers,  # type: ignore[arg-type]  # validated: a list or "1-3" becomes a tuple
        shape=shape,  # type: ignore[arg-type]  # validated: "48x8" becomes a tuple
        shared=shared,
        prompt_only=prompt_only,
        model=model,
    )
    beside = None if samples is None else Path(samples)
    recording = Recording.check(Path(file), beside, domains, config, listener)
    with open_run(out, recording.inputs, listener, keep=("trace/part-*",)) as folder:
        if not folder.complete:
            run(recording, folder, listener)
    return recording.describe(Path(out))
