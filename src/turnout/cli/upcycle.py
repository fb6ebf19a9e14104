"""`turnout upcycle DENSE OUT`: a MoE from a dense checkpoint, by splitting or copying its feed-forward networks."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from turnout.cli.command import Device, Dtype, Json, Revision, command, print_json
from turnout.cli.console import Bars, print_table, say
from turnout.upcycling.config import UpcycleConfig

if TYPE_CHECKING:
    from turnout.upcycling.result import Upcycled


@command(UpcycleConfig)
def upcycle(
    dense: Annotated[str, typer.Argument(help="A Llama, Mistral, Qwen3, OLMo 2 or Granite checkpoint.")],
    out: Annotated[Path, typer.Argument(help="The new checkpoint's folder.")],
    text: Annotated[
        list[Path], typer.Option(help="Calibration text: .txt, or JSONL or Parquet of texts or questions. Repeatable.")
    ],
    revision: Revision = None,
    dtype: Dtype = None,
    device: Device = "auto",
    json: Json = False,
    **settings: Any,
) -> None:
    """Write a MoE made from the dense checkpoint DENSE, its routers briefly fitted; print the loss before and after."""
    from turnout.api.upcycle import upcycle as run

    with Bars() as bars:
        result = run(dense, out, text, revision=revision, dtype=dtype, device=device, listener=bars, **settings)
    if json:
        print_json(result.to_dict())
        return
    _show(result)


def _show(result: "Upcycled") -> None:
    content = result.to_dict()
    rows = [[row["model"], f"{row['loss']:.4f}", _difference(row)] for row in content["losses"]]
    title = f"loss on {content['text']['held_out_tokens']:,} held-out tokens, nats per token"
    print_table(["model", "loss", "more than dense [95 %]"], rows, title)
    print()
    parameters = content["parameters"]
    say(f"{content['family']}: {parameters['moe']:,} parameters, from {parameters['dense']:,} dense ones")
    say(f"with every expert chosen, logits differ from the dense model's by at most {content['equality']:.2g}")
    say(f"checkpoint: {result.path}")


def _difference(row: dict[str, object]) -> str:
    if row["model"] == "dense":
        return ""
    interval = row["interval"]
    bounds = f" [{interval[0]:+.4f} {interval[1]:+.4f}]" if isinstance(interval, list) else ""
    return f"{row['difference']:+.4f}{bounds}"
