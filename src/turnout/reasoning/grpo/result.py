"""What GRPO brought: grpo.json as an object."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from turnout.errors import RunError
from turnout.reasoning.answered import Answered
from turnout.reasoning.grpo.config import GrpoConfig
from turnout.runs import RunFolder
from turnout.tasks.exercises import Exercise

SCHEMA, GRPO_FILE, ANSWERS, CURVES = 1, "grpo.json", "answers", "curves"
_RESAMPLES = 2000


@dataclass(frozen=True, eq=False, repr=False)
class Rewarded:
    """Test problems before and after.

    Attributes:
        path: the run's folder; `path / "model"` is the trained checkpoint.
        already_complete: the folder held this run, finished; nothing was computed.
    """

    _content: Mapping[str, Any]
    path: Path
    already_complete: bool = False

    @property
    def accuracy(self) -> dict[str, Any]:
        """`before`, `after`, their `difference` and its 95 % `interval` over problems."""
        return dict(self._content["accuracy"])

    def frame(self) -> pl.DataFrame:
        """One row a step and metric: reward, kl, loss, tokens, grad_norm."""
        return RunFolder.read(self.path).read_table(CURVES)

    def to_dict(self) -> dict[str, Any]:
        """Exactly grpo.json, as a copy."""
        return deepcopy(dict(self._content))

    @classmethod
    def load(cls, path: Path | str, *, already_complete: bool = False) -> "Rewarded":
        """The result in a complete run's folder.

        Raises:
            RunError: no complete run there, or none of GRPO.
        """
        folder = RunFolder.read(path)
        if not (folder.path / GRPO_FILE).exists():
            raise RunError(path, expected=f"a run with {GRPO_FILE}", received="one without", do="see turnout grpo")
        return cls(folder.read_json(GRPO_FILE), folder.path, already_complete)


def content_of(
    described: Mapping[str, Any],
    tasks: str,
    config: GrpoConfig,
    asked: Sequence[Exercise],
    before: Answered,
    after: Answered,
) -> dict[str, Any]:
    """grpo.json."""
    levels = sorted({one.level for one in asked})
    by_level = {}
    for level in levels if len(levels) > 1 else ():
        at = [i for i, one in enumerate(asked) if one.level == level]
        by_level[str(level)] = _difference([before.right[i] for i in at], [after.right[i] for i in at], config.seed)
    return {
        "schema": SCHEMA,
        "model": dict(described),
        "tasks": tasks,
        "config": config.describe(),
        "before": before.figures(),
        "after": after.figures(),
        "accuracy": _difference(before.right, after.right, config.seed),
        "levels": by_level,
    }


def _difference(before: Sequence[bool], after: Sequence[bool], seed: int) -> dict[str, Any]:
    """Accuracy before and after, and their paired difference with a bootstrap interval over problems."""
    changed = np.array(after, float) - np.array(before, float)
    drawn = np.random.default_rng(seed).integers(0, len(changed), (_RESAMPLES, len(changed)))
    return {
        "problems": len(changed),
        "before": float(np.mean(before)),
        "after": float(np.mean(after)),
        "difference": float(changed.mean()),
        "interval": np.quantile(changed[drawn].mean(1), [0.025, 0.975]).tolist(),
    }
