"""What every verb of the command line shares: one-line errors, exit codes, `--debug` and `--json`."""

import functools
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from turnout.errors import TurnoutError

Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object on stdout, nothing else.")]
_DEBUG = inspect.Parameter(
    "debug",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")],
)


def verb(function: Callable[..., None]) -> Callable[..., None]:
    """`function` as a command: a `TurnoutError` becomes one line on stderr and exit status 1; `--debug` shows more."""

    @functools.wraps(function)
    def run(*args: Any, debug: bool = False, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except TurnoutError as error:
            if debug:
                raise
            _stop(f"turnout: {error}")
        except KeyboardInterrupt:
            if debug:
                raise
            _stop("turnout: interrupted; the same command goes on where this one stopped")

    signature = inspect.signature(function)
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), _DEBUG])  # type: ignore[attr-defined]
    run.__annotations__ = function.__annotations__ | {"debug": _DEBUG.annotation}
    return run


def _stop(line: str) -> None:
    print(line, file=sys.stderr)
    raise typer.Exit(1)


def print_json(result: Mapping[str, object]) -> None:
    """Print one JSON object; an undefined figure is null, never NaN."""
    print(json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False))
