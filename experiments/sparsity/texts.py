"""What the sweep's models are audited on: `python experiments/sparsity/texts.py`, before the sweep, from the root.

Facts that were taught and chains of the test split, problem and solution, as texts of five domains.
"""

import json
from itertools import islice
from pathlib import Path

from turnout.runs import atomic
from turnout.tasks.exercises import Exercise, chains, facts

OUT = Path("runs/sparsity/texts.jsonl")
FACTS, WORLDS_SEED, DEPTHS = 25_000, 0, (1, 4, 8, 12)  # as in narrow.yaml
TEXTS, SEED = 200, 2_000_003  # of each domain; the seed is that of no other chains


def row(domain: str, one: Exercise) -> str:
    """A JSON line."""
    return json.dumps({"id": f"{domain}-{one.id}", "domain": domain, "subject": domain, "text": one.text}) + "\n"


def main() -> None:
    """Write runs/sparsity/texts.jsonl."""
    rows = [row("facts", one) for one in islice(facts(FACTS, WORLDS_SEED), TEXTS)]
    for depth in DEPTHS:
        rows += [row(f"chains-{depth}", one) for one in chains("test", TEXTS, (depth,), SEED)]
    OUT.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(OUT, "".join(rows).encode())


if __name__ == "__main__":
    main()
