"""Held-out English texts for `turnout mask`, written to stdout.

    python -m experiments.masking.texts > texts.jsonl

The start of documents that were held out from the embedded model's training, 24 from each of its four real sources, as
texts with a domain. Needs the corpora that `make embedded` fetches. Commands and results: docs/findings/index.md.
"""

import sys
from pathlib import Path

from experiments.shared.rows import text_row
from turnout.embedded import corpora
from turnout.training.documents import documents
from turnout.training.recipe import Source

HELD_OUT, SEED = 0.05, 0  # as in src/turnout/embedded/recipe.yaml
TEXTS, CHARACTERS = 24, 700


def main() -> None:
    """Write one JSON line a text."""
    for name, path in corpora.fetch(Path("corpora")).items():
        held_out = documents(Source(name=name, path=path), HELD_OUT, SEED)["held_out"]
        long_enough = [text for text in held_out if len(text) >= CHARACTERS]
        for number, text in enumerate(long_enough[:TEXTS]):
            start = text[:CHARACTERS].rpartition(" ")[0]
            sys.stdout.write(text_row(f"{name}-{number}", name, start))


if __name__ == "__main__":
    main()
