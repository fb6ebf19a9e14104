"""`turnout eval MODEL --tasks …`: lm-evaluation-harness's results, and which experts read its prompts."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from turnout.auditing.config import AuditConfig
from turnout.cli.command import Adapter, Device, Dtype, Json, Out, TrustRemoteCode, command, print_json
from turnout.cli.console import Bars, print_result, print_table, say_where
from turnout.evaluating.config import EvaluateConfig

if TYPE_CHECKING:
    from turnout.evaluating.result import Evaluation


@command(EvaluateConfig, AuditConfig, leave_out=("answers", "shots"))
def evaluate(
    model: Annotated[str, typer.Argument(help="Checkpoint folder or hub id.")],
    tasks: Annotated[
        str, typer.Option(help="Tasks, groups or tags of lm-evaluation-harness, or YAML files; separated by commas.")
    ],
    include_path: Annotated[Path | None, typer.Option(help="A folder of task YAML files of your own.")] = None,
    adapter: Adapter = None,
    dtype: Dtype = None,
    device: Device = "auto",
    trust_remote_code: TrustRemoteCode = False,
    out: Out = None,
    json: Json = False,
    **settings: Any,
) -> None:
    """Run lm-evaluation-harness and record the routing by task; its results are its own. Writes a run and its page."""
    from turnout.api.evaluate import evaluate as run

    folder = out or Path("runs") / f"{Path(model).name}-{'-'.join(Path(name).stem for name in tasks.split(','))[:80]}"
    with Bars() as bars:
        result = run(
            model,
            tasks,
            folder,
            include_path=include_path,
            adapter=adapter,
            dtype=dtype,
            device=device,
            trust_remote_code=trust_remote_code,
            listener=bars,
            **settings,
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
