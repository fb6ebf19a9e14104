"""A sweep of a few seconds: facts and chains, models of some thousand parameters."""

from typing import Any

import yaml


def content(**changes: Any) -> dict[str, Any]:
    """A recipe's mapping: two MoEs and a dense model, one seed, twelve steps each."""
    base = {
        "model": {
            "architecture": "mixtral",
            "hidden_size": 16,
            "layers": 1,
            "heads": 2,
            "experts": 4,
            "top_k": 2,
            "expert_width": 16,
            "context": 128,
        },
        "data": {
            "tokenizer": "exercises",
            "sequence_length": 32,
            "evaluation_tokens": 64,
            "worlds_seed": 0,
            "sources": [
                {"name": "facts", "facts": 50, "exposures": 2},
                {"name": "chains", "chains": [1, 2], "samples": 100},
            ],
        },
        "schedule": {"batch_size": 4, "learning_rate": 0.01, "layer_balancing": 0.01, "save_every": 4},
    }
    recipe: dict[str, Any] = {
        "base": base,
        "grid": [{"experts": [1, 2, 4]}],
        "budget": {"tokens": 12 * 4 * 32},
        "ask": {"facts": 20, "chains": 10, "levels": [3]},
    }
    return recipe | changes


def write(path: Any, **changes: Any) -> Any:
    """Write the recipe as YAML; returns its path."""
    path.write_text(yaml.safe_dump(content(**changes)))
    return path
