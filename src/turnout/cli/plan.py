"""`turnout plan`: which MoE a budget allows and a goal asks for; or the size and costs of one that exists."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from turnout.cli.console import print_result, say, say_where
from turnout.cli.verb import Json, print_json, verb

if TYPE_CHECKING:
    from turnout.sparsity import Plan


class Goal(StrEnum):
    """What the model is for."""

    memorise = "memorise"
    reason = "reason"
    both = "both"


class Use(StrEnum):
    """What must fit into the memory."""

    inference = "inference"
    training = "training"


@verb
def plan(
    active: Annotated[str | None, typer.Option(help="Active parameters, embeddings counted: 170M, 1.3B.")] = None,
    tokens: Annotated[str | None, typer.Option(help="Training tokens: 125B, 5T.")] = None,
    goal: Annotated[Goal | None, typer.Option(help="What it is for. [default: both]", show_default=False)] = None,
    memory: Annotated[str | None, typer.Option(help="Memory that is there: 80GB, 24GiB. [default: no limit]")] = None,
    use: Annotated[
        Use | None,
        typer.Option("--for", help="What must fit into the memory. [default: inference]", show_default=False),
    ] = None,
    width: Annotated[str | None, typer.Option(help="Widths to look through: 1024,2048. [default: 128…8192]")] = None,
    layers: Annotated[str | None, typer.Option(help="Numbers of layers. [default: 16]")] = None,
    experts: Annotated[str | None, typer.Option(help="Experts of a layer. [default: 8,16,…,256]")] = None,
    top_k: Annotated[str | None, typer.Option(help="Chosen experts. [default: 2,4,8,16]")] = None,
    vocab: Annotated[str | None, typer.Option(help="Vocabulary sizes. [default: 99584]")] = None,
    tolerance: Annotated[
        float | None, typer.Option(help="How far active may be from the budget, as a share. [default: 0.1]")
    ] = None,
    context: Annotated[str | None, typer.Option(help="Tokens of a sequence. [default: 4096]")] = None,
    of: Annotated[
        str | None,
        typer.Option(
            help="Size a model instead: folder, config.json, hub id, OLMoE, Qwen3-30B-A3B, DeepSeek-V2-Lite, or "
            "llm-jp/optimal-sparsity-…"
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for plan.json and its page. [default: none]")] = None,
    json: Json = False,
) -> None:
    """From active parameters, tokens and a goal: legal MoE shapes, their costs, which to take. --of: of one model."""
    from turnout.api import old as api

    result = api.plan(
        active,
        tokens,
        goal and goal.value,
        of=of,
        out=out,
        note=say,
        memory=memory,
        use=use and use.value,
        width=width,
        layers=layers,
        experts=experts,
        top_k=top_k,
        vocab=vocab,
        tolerance=tolerance,
        context=context,
    )
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
