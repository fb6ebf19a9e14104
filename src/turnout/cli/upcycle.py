"""`turnout upcycle DENSE OUT`: a MoE from a dense checkpoint, by splitting its networks or copying them."""

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from turnout.cli.console import Bars, print_table, say
from turnout.cli.options import Device, Dtype
from turnout.cli.verb import Json, print_json, verb

if TYPE_CHECKING:
    from turnout.upcycling import Upcycled


class Method(Enum):
    """How experts are made of a feed-forward network."""

    split = "split"
    copy = "copy"


class Groups(Enum):
    """Which neurons of a split go together."""

    coactivation = "coactivation"
    weights = "weights"
    random = "random"


@verb
def upcycle(
    dense: Annotated[str, typer.Argument(help="A Llama, Mistral, Qwen3, OLMo 2 or Granite checkpoint.")],
    out: Annotated[Path, typer.Argument(help="The new checkpoint's folder.")],
    text: Annotated[
        list[Path], typer.Option(help="Calibration text: .txt, or JSONL or Parquet of texts or questions. Repeatable.")
    ],
    method: Annotated[
        Method, typer.Option(help="Deal each network's neurons out to the experts, or give every expert all of them.")
    ] = Method.split,
    experts: Annotated[int, typer.Option(help="Experts of a layer.", min=2)] = 8,
    top_k: Annotated[int, typer.Option(help="Experts chosen a token.", min=1)] = 2,
    groups: Annotated[
        Groups, typer.Option(help="Of a split: neurons active on the same tokens, with like gates, or at random.")
    ] = Groups.coactivation,
    noise: Annotated[float, typer.Option(help="Of a copy: noise on its weights, as a share of their spread.")] = 0.0,
    tokens: Annotated[int, typer.Option(help="Most tokens of text to fit to.", min=1)] = 8192,
    held_out: Annotated[int, typer.Option(help="Most tokens of other text to measure on.", min=1)] = 4096,
    length: Annotated[int, typer.Option(help="Tokens of a window of text.", min=2)] = 256,
    seed: Annotated[int, typer.Option(help="Of text order, groups, routers and noise.", min=0)] = 0,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub id.")] = None,
    dtype: Dtype = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Write a MoE made of the dense checkpoint DENSE, its routers fitted briefly; state the loss before and after."""
    from turnout.upcycling import upcycle as run

    with Bars() as bars:
        result = run(
            dense,
            out,
            text,
            method=method.value,
            experts=experts,
            top_k=top_k,
            groups=groups.value,
            noise=noise,
            tokens=tokens,
            held_out=held_out,
            length=length,
            seed=seed,
            revision=revision,
            dtype=dtype,
            device=device,
            progress=bars,
            note=say,
        )
    if json:
        print_json(result.to_dict())
        return
    _show(result)


def _show(result: "Upcycled") -> None:
    said = result.to_dict()
    rows = [[row["model"], f"{row['loss']:.4f}", _difference(row)] for row in said["losses"]]
    title = f"loss on {said['text']['held_out_tokens']:,} held-out tokens, nats a token"
    print_table(["model", "loss", "more than dense [95 %]"], rows, title)
    print()
    parameters = said["parameters"]
    say(f"{said['family']}: {parameters['moe']:,} parameters, {parameters['dense']:,} of them dense before")
    say(f"with every expert chosen, logits differ from the dense model's by at most {said['equality']:.2g}")
    say(f"checkpoint: {result.path}")


def _difference(row: dict[str, object]) -> str:
    if row["model"] == "dense":
        return ""
    interval = row["interval"]
    bounds = f" [{interval[0]:+.4f} {interval[1]:+.4f}]" if isinstance(interval, list) else ""
    return f"{row['difference']:+.4f}{bounds}"
