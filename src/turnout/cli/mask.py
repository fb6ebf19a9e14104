"""`turnout mask RUN`: what an audit's committees do for the answers, against controls."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from turnout.cli.console import Bars, print_table, say
from turnout.cli.options import Adapter, Device, TrustRemoteCode
from turnout.cli.verb import Json, print_json, verb
from turnout.errors import RecipeError

if TYPE_CHECKING:
    from turnout.masking import Masking


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
    adapter: Adapter = None,
    device: Device = None,
    trust_remote_code: TrustRemoteCode = False,
    seed: Annotated[int, typer.Option(help="Of the controls and resamples.", min=0)] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it will cost and stop.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the result. [default: RUN-mask-SET-LAYERS]")] = None,
    json: Json = False,
) -> None:
    """Mask an audit's committees, ask its questions again, and hold the drop against controls; redraws RUN's page."""
    from turnout import masking
    from turnout.api import old as api

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
        plan = masking.mask_plan(run, **options)
        print_json(plan.to_dict()) if json else say(str(plan))
        return
    folder = out or run.with_name(f"{run.name}-mask-{which.value}-{layers}" + "-renormalised" * renormalise)
    loading: dict[str, object] = {"trust_remote_code": trust_remote_code}
    loading |= {} if adapter is None else {"adapter": adapter}
    loading |= {} if device is None else {"device": device}
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
        raise RecipeError("--layers", expected="all, each, or layer numbers such as 3,5", received=words) from error


def _show(result: "Masking", folder: Path) -> None:
    frame = result.frame()
    columns = ["layer", "set", "n", "mass", "drop", "p size", "p mass", "effect"]
    for measure in frame["measure"].unique(maintain_order=True):
        without = _number(result.baseline[measure])
        beyond = {
            (str(target["layer"]), found["set"])
            for target in result.targets
            for found in target["sets"]
            if measure in found["measures"] and found["measures"][measure]["extrapolated"]
        }
        rows = [_row(row, beyond) for row in frame.filter(measure=measure).rows(named=True)]
        print_table(columns, rows, f"{measure}: {without} without a mask; drop is how much worse with it")
        print()
    say("p: how many random sets, of equal size and of equal mass, cost as much as the set that they were made for")
    for line in _notes(result):
        say(line)
    say(f"run: {folder}")


def _notes(result: "Masking") -> list[str]:
    """What of the tables is not to be read as it stands."""
    targets = result.targets
    sets = [measure for target in targets for found in target["sets"] for measure in found["measures"].values()]
    lines = ["†: beyond the mass of any control, and overstated"] if any(of["extrapolated"] for of in sets) else []
    fallback = sorted({layer for target in targets for layer in target.get("fallback", [])})
    lines += [f"fallback, a committee by construction: layer {', '.join(map(str, fallback))}"] if fallback else []
    return lines + [f"layer {x['layer']} left out: {x['reason']}" for target in targets for x in target["left_out"]]


def _row(row: dict[str, object], beyond: set[tuple[str, str]]) -> list[str]:
    low, high = row["effect_low"], row["effect_high"]
    numbers = [_number(row[name]) for name in ("removed_mass", "drop", "p_random", "p_matched")]
    effect = _number(row["effect"]) + ("" if low is None else f" [{_number(low)}, {_number(high)}]")
    mark = "†" if (row["layer"], row["set"]) in beyond else ""
    return [str(row["layer"]), str(row["set"]), str(row["size"]), *numbers, effect + mark]


def _number(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "–"
