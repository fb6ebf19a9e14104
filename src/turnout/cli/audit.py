"""`turnout audit [MODEL]`: who does the routing, layer by layer."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from turnout.cli.console import Bars, print_result, say, say_where
from turnout.cli.options import Adapter, Device, Dtype, Out, TokenBudget, TrustRemoteCode
from turnout.cli.verb import Json, print_json, verb

if TYPE_CHECKING:
    from turnout.auditing import Audit


class Scope(StrEnum):
    """Which tokens of a prompt are read."""

    last = "last"
    all = "all"


class Kind(StrEnum):
    """Which reading of an expert's contribution ranks the experts."""

    gate = "gate"
    frequency = "frequency"
    weight = "weight"
    released = "released"


@verb
def audit(
    model: Annotated[
        str | None,
        typer.Argument(help="Checkpoint folder, hub id, or a run to measure again. [default: the embedded model]"),
    ] = None,
    tasks: Annotated[
        str | None, typer.Option(help="mmlu, mmlu-dev, worlds, a folder, a JSONL/Parquet file. [default: mmlu-dev]")
    ] = None,
    domains: Annotated[
        str | None, typer.Option(help="mmlu-9, mmlu-4, subject, or a JSON/CSV file of subject and domain.")
    ] = None,
    scope: Annotated[Scope, typer.Option(help="Read the routing at the last token or over all tokens.")] = Scope.last,
    kind: Annotated[Kind, typer.Option(help="What counts as an expert's contribution.")] = Kind.gate,
    budgets: Annotated[str | None, typer.Option(help="Other numbers of chosen experts to try, such as 4,8,16.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most this many questions of a subject.", min=1)] = None,
    shots: Annotated[int | None, typer.Option(help="Solved examples before each question. [default: 0]", min=0)] = None,
    answers: Annotated[
        bool, typer.Option("--answers", help="Also read the answer: log-probabilities, accuracy.")
    ] = False,
    token_budget: TokenBudget = None,
    adapter: Adapter = None,
    dtype: Dtype = None,
    device: Device = None,
    trust_remote_code: TrustRemoteCode = False,
    out: Out = None,
    json: Json = False,
) -> None:
    """Read a model's routing on real questions: committees, coverage, Gini, Jaccard. Writes a run and its page."""
    from turnout import api

    folder = out or Path("runs") / f"{Path(model).name if model else 'embedded'}-{Path(tasks or 'mmlu-dev').stem}"
    # Left out unless given: a run that is measured again keeps what it was captured with.
    given = {"shots": shots, "answers": answers or None, "token_budget": token_budget}
    captured = {name: value for name, value in given.items() if value is not None}
    with Bars() as bars:
        result = api.audit(
            model,
            tasks=tasks,
            out=folder,
            domains=domains,
            scope=scope.value,
            kind=kind.value,
            limit=limit,
            budgets=_numbers(budgets),
            **captured,
            adapter=adapter,
            dtype=dtype,
            device=device,
            trust_remote_code=trust_remote_code,
            progress=bars,
            note=say,
        )
    if json:
        print_json(result.to_dict())
        return
    _show(result, folder)


def _numbers(text: str | None) -> tuple[int, ...] | None:
    """4,8,16 as numbers."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"expected whole numbers such as 4,8,16, got {text}") from error


def _show(result: "Audit", folder: Path) -> None:
    from turnout import report

    print_result(report.summary(result.to_dict()), report.claim_lines(result.to_dict()))
    say_where(folder)
