"""`turnout eval MODEL --tasks …`: lm-evaluation-harness's results, and which experts read its prompts."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from turnout.cli.console import Bars, print_result, print_table, say, say_where
from turnout.cli.options import Adapter, Device, Dtype, Out, TokenBudget, TrustRemoteCode
from turnout.cli.verb import Json, print_json, verb

if TYPE_CHECKING:
    from turnout.evaluating import Evaluation


@verb
def evaluate(
    model: Annotated[str, typer.Argument(help="Checkpoint folder or hub id.")],
    tasks: Annotated[
        str, typer.Option(help="Tasks, groups or tags of lm-evaluation-harness, or YAML files; separated by commas.")
    ],
    include_path: Annotated[Path | None, typer.Option(help="A folder of task YAML files of your own.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most this many documents of a task.", min=1)] = None,
    num_fewshot: Annotated[
        int | None, typer.Option(help="Solved examples before each document. [default: as the task says]", min=0)
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Requests in a forward of the harness.", min=1)] = 1,
    apply_chat_template: Annotated[
        bool, typer.Option("--apply-chat-template", help="Ask through the tokenizer's chat template.")
    ] = False,
    token_budget: TokenBudget = None,
    adapter: Adapter = None,
    dtype: Dtype = None,
    device: Device = None,
    trust_remote_code: TrustRemoteCode = False,
    out: Out = None,
    json: Json = False,
) -> None:
    """Run lm-evaluation-harness and record the routing by task; its results are its own. Writes a run and its page."""
    from turnout import api

    folder = out or Path("runs") / f"{Path(model).name}-{'-'.join(Path(name).stem for name in tasks.split(','))[:80]}"
    with Bars() as bars:
        result = api.evaluate(
            model,
            tasks,
            folder,
            include_path=include_path,
            limit=limit,
            num_fewshot=num_fewshot,
            batch_size=batch_size,
            apply_chat_template=apply_chat_template,
            token_budget=token_budget,
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


def _show(result: "Evaluation", folder: Path) -> None:
    from turnout import report

    rows = [
        [task, metric, filtered, f"{value:.4f}", "" if stderr is None else f"{stderr:.4f}"]
        for task, metric, filtered, value, stderr in result.frame().rows()
    ]
    print_table(["task", "metric", "filter", "value", "stderr"], rows, "lm-evaluation-harness")
    print()
    print_result(report.summary(result.audit.to_dict()))
    say_where(folder)
