"""`turnout import FILE`: routing that was recorded elsewhere, as a run."""

from pathlib import Path
from typing import Annotated

import typer

from turnout.cli.console import Bars, say
from turnout.cli.verb import Json, print_json, verb
from turnout.errors import RecipeError


@verb
def import_(
    file: Annotated[
        Path, typer.Argument(help="npy, npz, Parquet or JSONL of routed-expert ids, [tokens, layers, K] a sample.")
    ],
    experts: Annotated[int, typer.Option(help="Routed experts of a layer, E.", min=1)],
    out: Annotated[Path | None, typer.Option(help="Folder for the run. [default: runs/NAME-OF-FILE]")] = None,
    samples: Annotated[
        Path | None,
        typer.Option(help="JSONL or Parquet, a row a sample: id, subject, domain, tokens, answer, prompt_tokens."),
    ] = None,
    domains: Annotated[
        str | None, typer.Option(help="mmlu-9, mmlu-4, subject, or a JSON/CSV file of subject and domain.")
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(help="Decoder layers: 1-27 or 0,2,4. A number for each layer of the array, or those to keep."),
    ] = None,
    shape: Annotated[
        str | None, typer.Option(help="LAYERSxK of numbers that come without it, as SGLang's: 48x8.")
    ] = None,
    shared: Annotated[int, typer.Option(help="Shared experts of a layer.", min=0)] = 0,
    prompt_only: Annotated[
        bool, typer.Option("--prompt-only", help="Leave the answer's tokens out; needs prompt_tokens.")
    ] = False,
    model: Annotated[str | None, typer.Option(help="What the model is called. [default: the file's name]")] = None,
    json: Json = False,
) -> None:
    """Read the chosen experts that vLLM or SGLang returned into a run; then `turnout audit RUN --kind frequency`."""
    from turnout.exchange import NOT_COMPUTED, ImportConfig, import_routed

    config = ImportConfig(
        experts=experts,
        layers=None if layers is None else _numbers(layers),
        shape=None if shape is None else _shape(shape),
        shared=shared,
        prompt_only=prompt_only,
        model=model,
    )
    folder = out or Path("runs") / file.stem
    with Bars() as bars:
        found = import_routed(file, folder, config, samples=samples, domains=domains, progress=bars, note=say)
    if json:
        print_json(found.to_dict())
        return
    say(
        f"{found.samples} samples, {found.tokens} tokens, {len(found.layers)} layers, "
        f"{found.top_k} of {experts} experts a token"
    )
    say(f"not to be had from it: {', '.join(NOT_COMPUTED)} (only the chosen experts were recorded)")
    say(f"run: {folder}; measure it with: turnout audit {folder} --kind frequency --out …")


def _numbers(text: str) -> tuple[int, ...]:
    """1-3,7 as 1, 2, 3, 7."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise RecipeError("layers", expected="numbers such as 1-27 or 0,2,4", received=text)
        found += range(int(first), int(last or first) + 1)
    return tuple(found)


def _shape(text: str) -> tuple[int, int]:
    n_layers, cross, k = text.lower().partition("x")
    if not cross or not n_layers.isdecimal() or not k.isdecimal():
        raise RecipeError("shape", expected="LAYERSxK such as 48x8", received=text)
    return int(n_layers), int(k)
