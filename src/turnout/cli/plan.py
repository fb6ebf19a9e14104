"""`turnout plan`: MoE shapes for a budget and a goal, or the size and costs of one model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from turnout.cli.command import Json, command, print_json
from turnout.cli.console import Bars, print_result, say_where
from turnout.sparsity.config import Grid, PlanConfig

if TYPE_CHECKING:
    from turnout.sparsity.result import Plan


@command(PlanConfig, Grid)
def plan(
    of: Annotated[
        str | None,
        typer.Option(
            help="Size a model instead: folder, config.json, hub id, OLMoE, Qwen3-30B-A3B, DeepSeek-V2-Lite, or "
            "llm-jp/optimal-sparsity-…"
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for plan.json and its page. [default: none]")] = None,
    json: Json = False,
    **settings: Any,
) -> None:
    """List the MoE shapes of a budget (--active, --tokens), their costs, and the best for a goal; or size a model."""
    from turnout.api.plan import plan as run

    with Bars() as bars:
        result = run(of=of, out=out, listener=bars, **settings)
    if json:
        print_json(result.to_dict())
        return
    _show(result, out)


def _show(result: "Plan", out: Path | None) -> None:
    from turnout import report

    content = result.to_dict()
    print_result(report.plan_tables(content), report.plan_sentences(content))
    if out is not None:
        say_where(out)
