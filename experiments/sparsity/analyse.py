"""Tables of docs/findings/sparsity.md and results/* from the sweeps and after.py.

    python -m experiments.sparsity.analyse

The two primary tests are those of PLAN.md; everything else describes. Intervals over seeds are 95 % t intervals. Those
of the slopes of the two lines have bounds of 95 % each (90 % together), since the test is one-sided on either side.
"""

from pathlib import Path

import polars as pl

from experiments.shared.markdown import inject, sections, table
from experiments.sparsity.after import NARROW, TRIED, tried_seed
from experiments.sparsity.rewards import all_votes, by_sparsity, gains, measured, rates
from experiments.sparsity.sweeps import (
    committees,
    contrasts,
    dense_contrasts,
    gaps,
    primary,
    primary_table,
    shapes,
    shifted,
    span,
    trials,
    wider,
)
from turnout.sparsity.sweep.result import SweepResult

HERE = Path(__file__).parent
WIDE, CHOSEN = NARROW.with_name("wide"), NARROW.with_name("chosen")
DOCS = HERE.parents[1] / "docs" / "findings" / "sparsity.md"


def main() -> None:
    """Write the tables."""
    budgets = {
        name: trials(path) for name, path in (("narrow", NARROW), ("wide", WIDE)) if (path / "sweep.json").exists()
    }
    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    rows = [row for name, by in budgets.items() for row in primary(by, name)]
    parts = [("The two questions", primary_table(rows))]
    pl.DataFrame(rows, infer_schema_length=None).write_csv(folder / "primary.csv", float_precision=6)
    for name, path in (("narrow", NARROW), ("wide", WIDE)):
        if name in budgets:
            SweepResult.load(path).frame().write_parquet(folder / f"{name}.parquet", compression="zstd")
            parts.append((f"{name.capitalize()} budget, means over seeds", shapes(budgets[name])))
            parts += [("", of(budgets[name])) for of in (dense_contrasts, gaps, committees)]
    if len(budgets) == 2:
        moved = shifted(budgets["narrow"], budgets["wide"])
        cells = [[row["question"], row["experts"], str(row["seeds"]), row["places"], span(row)] for row in moved]
        head = ["question", "experts", "seeds", "best E by seed, narrow and wide", "log2 moved"]
        parts.append(("Does the optimum move with the budget?", table(head, cells)))
        parts.append(("More active parameters, at equal E", wider(budgets["narrow"], budgets["wide"])))
        parts.append(("and at equal training loss (chains of 1 to 14)", contrasts(WIDE, "budget", "the wider is")))
    if (CHOSEN / "sweep.json").exists():
        SweepResult.load(CHOSEN).frame().write_parquet(folder / "chosen.parquet", compression="zstd")
        more = contrasts(CHOSEN, "top_k", "the larger K is")
        parts.append(("More chosen experts, at equal TPP (chains of 1 to 14)", more))
    frame = measured()
    if frame.height:
        frame.write_csv(folder / "after.csv", float_precision=6)
        all_votes().write_csv(folder / "votes.csv", float_precision=6)
        tried = rates()
        tried.write_csv(folder / "rates.csv", float_precision=6)
        cells = [[f"{rate:g}", *(f"{value:.3f}" for value in rest)] for rate, *rest in tried.rows()]
        head = [f"learning rate, E = {TRIED}, seed {tried_seed()}", *tried.columns[1:]]
        parts += [("GRPO and self-consistency", table(head, cells)), ("", by_sparsity(frame)), ("", gains(frame))]
    text = sections(parts)
    inject(DOCS, "experiments/sparsity/analyse.py", text)
    print(text)


if __name__ == "__main__":
    main()
