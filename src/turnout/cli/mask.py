"""`turnout mask RUN`: what an audit's committees do for the answers, against controls."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from turnout.cli.console import Bars, print_table, say
from turnout.cli.options import Device, TrustRemoteCode
from turnout.cli.verb import Json, print_json, verb
from turnout.errors import RecipeError

if TYPE_CHECKING:
    from turnout.auditing import Masking


class Which(StrEnum):
    """Which set the controls are made for."""

    committee = "committee"
    core = "core"


@verb
def mask(
    run: Annotated[Path, typer.Argument(help="The folder of a finished audit.")],
    model: Annotated[
        str | None, typer.Option(help="The audited checkpoint's folder or hub id. [default: the id in the run]")
    ] = None,
    layers: Annotated[
        str, typer.Option(help="all (at once), each (alone, then all at once), or numbers: 3,5 (each alone).")
    ] = "all",
    which: Annotated[
        Which, typer.Option("--set", help="The set that controls are made for; core: all candidates.")
    ] = Which.committee,
    controls: Annotated[int, typer.Option(help="Random sets of equal size.", min=1)] = 99,
    renormalise: Annotated[
        bool, typer.Option("--renormalise", help="Score all experts, zero the masked, rescale the rest.")
    ] = False,
    generate: Annotated[int, typer.Option(help="Also let it write so many tokens for an answer.", min=0)] = 0,
    limit: Annotated[int | None, typer.Option(help="At most this many questions of a subject.", min=1)] = None,
    device: Device = None,
    trust_remote_code: TrustRemoteCode = False,
    seed: Annotated[int, typer.Option(help="Of the controls and resamples.", min=0)] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it will cost and stop.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the result. [default: RUN-mask-SET-LAYERS]")] = None,
    json: Json = False,
) -> None:
    """Mask an audit's committees, ask its questions again, and hold the drop against controls; redraws RUN's page."""
    from turnout import api, auditing

    options = {
        "layers": _layers(layers),
        "which": which.value,
        "controls": controls,
        "renormalise": renormalise,
        "generate": generate,
        "limit": limit,
        "seed": seed,
    }
    if dry_run:
        plan = auditing.mask_plan(run, **options)
        print_json(plan.to_dict()) if json else say(str(plan))
        return
    folder = out or run.with_name(f"{run.name}-mask-{which.value}-{layers}" + "-renormalised" * renormalise)
    loading: dict[str, object] = {"trust_remote_code": trust_remote_code}
    loading |= {} if device is None else {"device_map" if device == "auto" else "device": device}
    with Bars() as bars:
        result = api.mask(run, model, folder, loading=loading, progress=bars, note=say, **options)
    if json:
        print_json(result.to_dict())
        return
    _show(result, folder)
    say(f"page: {run / 'report.html'}")


def _layers(words: str) -> str | tuple[int, ...]:
    """Layers as the library takes them: all, each, or numbers."""
    if words in ("all", "each"):
        return words
    try:
        return tuple(int(word) for word in words.split(","))
    except ValueError as error:
        raise RecipeError("--layers", expected="all, each, or layer numbers such as 3,5", came=words) from error


def _show(result: "Masking", folder: Path) -> None:
    frame = result.frame()
    for measure in frame["measure"].unique(maintain_order=True):
        without = _number(result.baseline[measure])
        rows = [_row(row) for row in frame.filter(measure=measure).rows(named=True)]
        columns = ["layer", "set", "n", "mass", "drop", "p", "predicted", "effect"]
        print_table(columns, rows, f"{measure}: {without} without a mask; drop is how much worse with it")
        print()
    for target in result.targets:
        for left in target["left_out"]:
            say(f"layer {left['layer']} left out: {left['reason']}")
    say(f"run: {folder}")


def _row(row: dict[str, object]) -> list[str]:
    low, high = row["effect_low"], row["effect_high"]
    numbers = [_number(row[name]) for name in ("removed_mass", "drop", "p_random", "predicted")]
    effect = _number(row["effect"]) + ("" if low is None else f" [{_number(low)}, {_number(high)}]")
    return [str(row["layer"]), str(row["set"]), str(row["size"]), *numbers, effect]


def _number(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "–"
