"""Result of a plan: plan.json as an object, and its table."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from turnout.quantities import show_count
from turnout.runs.result import Result

PLAN_FILE, CONFIGURATIONS = "plan.json", "configurations"
_COUNTS = ("width", "layers", "experts", "top_k", "shared", "expert_width", "vocab")


class Plan(Result):
    """Configurations with their costs; for a budget also the one that is recommended for each goal."""

    FILE, VERB = PLAN_FILE, "plan"

    @property
    def configurations(self) -> tuple[dict[str, Any], ...]:
        """The legal configurations, the recommended ones first; for one model that one."""
        return tuple(self._content["configurations"])

    @property
    def recommendation(self) -> dict[str, Any] | None:
        """Choices with reason and uncertainty; None for a given model."""
        return self._content["recommendation"]

    def frame(self) -> pl.DataFrame:
        """One row a configuration: shape, parameters, sparsity, TPP, FLOPs, memory, and each law's loss and range."""
        return configuration_table(self.configurations)

    def title(self) -> str:
        """The budget, or the model that was sized."""
        question = self._content["question"]
        if self._content["kind"] == "model":
            return f"Size of {question['of']}"
        active, tokens = (show_count(question[name]) for name in ("active", "tokens"))
        return f"Plan for {active} active parameters and {tokens} tokens"


def configuration_table(configurations: tuple[Mapping[str, Any], ...]) -> pl.DataFrame:
    """`tables/configurations.parquet`: one row a configuration."""
    return pl.DataFrame([_row(one) for one in configurations], infer_schema_length=None)


def _row(configuration: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {name: configuration[name] for name in ("name", *_COUNTS)}
    row |= configuration["parameters"]
    row |= {"sparsity": configuration["sparsity"], "tpp": configuration["tpp"], "fits": configuration.get("fits")}
    row |= {f"flops_{name}": value for name, value in configuration["flops"].items() if name != "context"}
    row |= {f"memory_{name}": value for name, value in configuration["memory"].items()}
    for law in configuration["laws"]:
        short = law["law"].lower().replace(" ", "_")
        row |= {f"{short}_loss": law["loss"], f"{short}_in_range": law["in_range"]}
    return row
