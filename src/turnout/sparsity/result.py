"""What a plan found: plan.json as an object, and its table."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from turnout.errors import RunError
from turnout.runs import RunFolder

PLAN_FILE, CONFIGURATIONS = "plan.json", "configurations"
_COUNTS = ("width", "layers", "experts", "top_k", "shared", "expert_width", "vocab")


@dataclass(frozen=True, eq=False, repr=False)
class Plan:
    """Configurations with their costs; of a budget also which of them a goal asks for.

    Attributes:
        path: the run's folder, if it lies on disk.
    """

    _content: Mapping[str, Any]
    path: Path | None = None

    @property
    def configurations(self) -> tuple[dict[str, Any], ...]:
        """The legal configurations, those that the goal prefers first; of one model that one."""
        return tuple(self._content["configurations"])

    @property
    def recommendation(self) -> dict[str, Any] | None:
        """Choices with reason and uncertainty; None for a given model."""
        return self._content["recommendation"]

    def frame(self) -> pl.DataFrame:
        """One row a configuration: shape, parameters, sparsity, tpp, FLOPs, memory, and each law's loss and range."""
        return pl.DataFrame([_row(one) for one in self.configurations], infer_schema_length=None)

    def to_dict(self) -> dict[str, Any]:
        """Exactly plan.json, as a copy."""
        return deepcopy(dict(self._content))

    @classmethod
    def load(cls, path: Path | str) -> "Plan":
        """The plan in a complete run's folder.

        Raises:
            RunError: no complete run there, or no plan.
        """
        folder = RunFolder.read(path)
        if not (folder.path / PLAN_FILE).exists():
            raise RunError(path, expected=f"a run with {PLAN_FILE}", received="one without", do="see turnout plan")
        return cls(folder.read_json(PLAN_FILE), folder.path)


def _row(one: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"name": one["name"], **{name: one[name] for name in _COUNTS}}
    row |= {name: one["parameters"][name] for name in one["parameters"]}
    row |= {"sparsity": one["sparsity"], "tpp": one["tpp"], "fits": one.get("fits")}
    row |= {f"flops_{name}": value for name, value in one["flops"].items() if name != "context"}
    row |= {f"memory_{name}": value for name, value in one["memory"].items()}
    for found in one["laws"]:
        short = found["law"].lower().replace(" ", "_")
        row |= {f"{short}_loss": found["loss"], f"{short}_in_range": found["in_range"]}
    return row
