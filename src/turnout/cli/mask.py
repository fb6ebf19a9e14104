"""`turnout mask RUN`: what an audit's committees contribute to the answers, against controls."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from turnout.cli.command import Adapter, Device, Json, TrustRemoteCode, command, print_json
from turnout.cli.console import Bars, print_table, say
from turnout.masking.config import MaskConfig

if TYPE_CHECKING:
    from turnout.masking.result import Masking


@command(MaskConfig)
def mask(
    run: Annotated[Path, typer.Argument(help="The folder of a finished audit.")],
    model: Annotated[
        str | None, typer.Option(help="The audited checkpoint's folder or hub id. [default: the id in the run]")
    ] = None,
    adapter: Adapter = None,
    device: Device = "auto",
    trust_remote_code: TrustRemoteCode = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what it will cost and stop.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the result. [default: RUN-mask-SET-LAYERS]")] = None,
    json: Json = False,
    **settings: Any,
) -> None:
    """Mask an audit's committees, ask its questions again, and compare the drop with controls; redraws RUN's page."""
    config = MaskConfig.of(settings)
    if dry_run:
        from turnout.masking.run import mask_plan

        plan = mask_plan(run, config)
        print_json(plan.to_dict()) if json else say(str(plan))
        return
    from turnout.api.mask import mask as run_mask

    layers = config.layers if isinstance(config.layers, str) else ",".join(map(str, config.layers))
    folder = out or run.with_name(f"{run.name}-mask-{config.which}-{layers}" + "-renormalised" * config.renormalize)
    with Bars() as bars:
        result = run_mask(
            run,
            model,
            folder,
            adapter=adapter,
            device=device,
            trust_remote_code=trust_remote_code,
            listener=bars,
            **settings,
        )
    if json:
        print_json(result.to_dict())
        return
    _show(result, folder)
    say(f"page: {run / 'report.html'}")


def _show(result: "Masking", folder: Path) -> None:
    frame = result.frame()
    columns = ["layer", "set", "n", "mass", "drop", "p size", "p mass", "effect"]
    for measure in frame["measure"].unique(maintain_order=True):
        without = _number(result.baseline[measure])
        beyond = {
            (str(target["layer"]), masked["set"])
            for target in result.targets
            for masked in target["sets"]
            if measure in masked["measures"] and masked["measures"][measure]["extrapolated"]
        }
        rows = [_row(row, beyond) for row in frame.filter(measure=measure).rows(named=True)]
        print_table(columns, rows, f"{measure}: {without} without a mask; drop is how much worse with it")
        print()
    say("p: share of random sets, of equal size and of equal mass, that cost as much as the set they were drawn for")
    for line in _notes(result):
        say(line)
    say(f"run: {folder}")


def _notes(result: "Masking") -> list[str]:
    """Cautions about figures in the tables."""
    targets = result.targets
    measured = [measure for target in targets for masked in target["sets"] for measure in masked["measures"].values()]
    lines = ["†: beyond the mass of any control, and overstated"] if any(m["extrapolated"] for m in measured) else []
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
