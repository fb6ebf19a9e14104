"""Train and measure every trial of PLAN.md that has no result yet.

    python -m experiments.couple.run [--processes 2] [--parts 1234]

Each trial is a process of one thread. An interrupted trial resumes from its last checkpoint; a failed one keeps its
error and is not run again until its .error file is removed.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.couple import trials
from experiments.couple.trials import ERC, RUNS, Trial
from experiments.shared import pool

RESULTS = RUNS / "results"


def result(trial: Trial) -> dict[str, Any] | None:
    """Result of a trial; None if it is not done."""
    file = RESULTS / f"{trial.name}.json"
    return json.loads(file.read_text()) if file.exists() else None


def chosen() -> dict[str, Any] | None:
    """Coupling settings that part 1 selects by the rule of PLAN.md; None while part 1 is not done."""
    measured = {trial.variant: result(trial) for trial in trials.weights()}
    if None in measured.values():
        return None
    base = measured["vanilla"]
    for normalised in (False, True):
        for weight in trials.WEIGHTS:
            if works(measured[f"{ERC}-weight{weight}{'-normalised' * normalised}"], base):
                return {"weight": float(weight), "normalised": normalised}
    return {"weight": float(max(trials.WEIGHTS)), "normalised": False}


def works(coupled: dict[str, Any] | None, base: dict[str, Any] | None) -> bool:
    """The manipulation check: L falls to a tenth or less, and more rows are dominated by their own expert."""
    assert coupled is not None
    assert base is not None
    return coupled["loss_at_1"] <= base["loss_at_1"] / 10 and coupled["dominant_rows"] > base["dominant_rows"]


def pending(parts: str) -> Iterator[list[Trial]]:
    """The trials of the parts, one list after another; a list needs the results of those before it."""
    if "1" in parts:
        yield trials.weights()
    settings = chosen()
    if settings is None:
        return
    if "2" in parts:
        yield trials.variants(settings)
        yield trials.norm_matched()
    if "3" in parts:
        yield trials.alphas(settings)
    if "4" in parts:
        yield trials.places(settings)


def start(trial: Trial) -> None:
    """Run one trial unless it has a result."""
    if not pool.is_done(RESULTS, trial.name):
        pool.run_module("experiments.couple.trial", vars(trial), RESULTS, [trial.name])


def main() -> None:
    """Run all trials of PLAN.md, or those of `--parts`."""
    parser = pool.parser(__doc__)
    parser.add_argument("--parts", default="1234")
    args = parser.parse_args()
    for part in pending(args.parts):
        pool.run_all(start, part, args.processes)


if __name__ == "__main__":
    if not Path("corpora").is_dir():
        sys.exit("corpora: expected the embedded model's corpora, got none; run: python -m turnout.embedded.build")
    main()
