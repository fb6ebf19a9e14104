"""A few small texts, a byte-level tokenizer and a recipe of a model that trains in a second."""

import json
import random
from pathlib import Path
from typing import Any

import tiny
import yaml

WORDS = ["gate", "expert", "router", "token", "layer", "loss", "norm", "head", "step", "rank"]


def write_corpus(folder: Path, n_documents: int = 200) -> None:
    """Two sources, `a.jsonl` and `b.jsonl`, and a tokenizer."""
    for name in ("a", "b"):
        draw = random.Random(name)
        rows = [{"text": f"{name}{i} " + " ".join(draw.choices(WORDS, k=12))} for i in range(n_documents)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tiny.tiny_tokenizer().save_pretrained(folder / "tokenizer")


def recipe(folder: Path, **schedule: Any) -> dict[str, Any]:
    """A recipe over that corpus: 12 steps of 4 sequences of 32 tokens."""
    return {
        "seed": 3,
        "model": {
            "hidden_size": 32,
            "layers": 2,
            "heads": 2,
            "experts": 4,
            "top_k": 2,
            "expert_width": 16,
            "context": 64,
        },
        "data": {
            "tokenizer": str(folder / "tokenizer"),
            "sequence_length": 32,
            "held_out": 0.1,
            "evaluation_tokens": 128,
            "sources": [
                {"name": "a", "path": str(folder / "a.jsonl"), "weight": 2},
                {"name": "b", "path": str(folder / "b.jsonl")},
            ],
        },
        "schedule": {"tokens": 12 * 4 * 32, "batch_size": 4, "learning_rate": 0.01, "save_every": 4, **schedule},
    }


def write_recipe(folder: Path, **schedule: Any) -> Path:
    """Corpus and recipe on disk; the recipe's path."""
    write_corpus(folder)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe(folder, **schedule)))
    return path
