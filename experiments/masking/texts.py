"""Held-out English for `turnout mask`: `python experiments/masking/texts.py > texts.jsonl`, from the repository's root.

The start of documents that the embedded model's training left out, 24 from each of its four real sources, as texts with
a domain. Needs the corpora that `make embedded` fetches. The commands and their results: docs/findings/index.md.
"""

import json
import sys
from pathlib import Path

from turnout.embedded import corpora
from turnout.training.data import documents
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
            row = {"id": f"{name}-{number}", "domain": name, "subject": name, "text": start}
            sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
