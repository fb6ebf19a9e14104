"""Texts that the sweep's models are audited on, written before the sweep to runs/sparsity/texts.jsonl.

    python -m experiments.sparsity.texts

Facts of the training data and chains of the test split, problem and solution, as texts of five domains.
"""

from itertools import islice
from pathlib import Path

from experiments.shared.rows import text_row
from turnout.runs import atomic
from turnout.tasks.exercises import Exercise, chains, facts

OUT = Path("runs/sparsity/texts.jsonl")
FACTS, WORLDS_SEED, DEPTHS = 25_000, 0, (1, 4, 8, 12)  # as in narrow.yaml
TEXTS, SEED = 200, 2_000_003  # of each domain; the seed is that of no other chains


def row(domain: str, one: Exercise) -> str:
    """JSON line of a problem and its solution."""
    return text_row(f"{domain}-{one.id}", domain, one.text)


def main() -> None:
    """Write the file."""
    rows = [row("facts", one) for one in islice(facts(FACTS, WORLDS_SEED), TEXTS)]
    for depth in DEPTHS:
        rows += [row(f"chains-{depth}", one) for one in chains("test", TEXTS, (depth,), SEED)]
    OUT.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(OUT, "".join(rows).encode())


if __name__ == "__main__":
    main()
