"""Base of every command: options generated from a settings class, one-line errors, exit codes, `--json`, `--debug`."""

import functools
import inspect
import json as json_module
import sys
import types
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from annotated_types import Ge
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from turnout.errors import TurnoutError
from turnout.settings import Section

# Options of several commands.
Adapter = Annotated[Path | None, typer.Option(help="Load trained routers: a run of turnout align, or its adapter.")]
Device = Annotated[
    str,
    typer.Option(help="auto (CUDA if there is one, then MPS, else CPU), cpu, cuda, cuda:1, mps.", show_default=True),
]
Domains = Annotated[str | None, typer.Option(help="mmlu-9, mmlu-4, subject, or a JSON/CSV file of subject and domain.")]
Dtype = Annotated[str | None, typer.Option(help="float32, bfloat16, … [default: the checkpoint's]")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object on stdout, nothing else.")]
Limit = Annotated[int | None, typer.Option(help="At most this many questions of a subject.", min=1)]
Out = Annotated[Path | None, typer.Option(help="Folder for the run. [default: runs/MODEL-TASKS]")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub id.")]
TrustRemoteCode = Annotated[bool, typer.Option("--trust-remote-code", help="Run the checkpoint's own code.")]

_DEBUG = inspect.Parameter(
    "debug",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")],
)


def command(
    *settings: type[Section], leave_out: Collection[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a command: its own parameters, and one option for each field of `settings`.

    A field's type, bounds, default and docstring give the option; the function receives the options that were given in
    its `**` parameter, so that a default is stated once, in the settings. A `TurnoutError` becomes one line on stderr
    and exit status 1; `--debug` shows the traceback.

    Args:
        *settings: the classes whose fields become options.
        leave_out: fields without an option, or which the function takes itself.
    """
    fields = {name: field for owner in settings for name, field in owner.model_fields.items() if name not in leave_out}
    generated = {name: _option(name, field) for name, field in fields.items() if not _is_section(field)}
    former = {_name_of(flag): name for name, field in fields.items() if (flag := _extra(field).get("former"))}
    hidden = [_option(old, fields[name], hidden=True) for old, name in former.items()]

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(*args: Any, debug: bool = False, **kwargs: Any) -> None:
            kwargs |= {new: value for old, new in former.items() if (value := kwargs.pop(old, None)) is not None}
            given = {name: value for name, value in kwargs.items() if name not in generated or value is not None}
            try:
                function(*args, **given)
            except TurnoutError as error:
                if debug:
                    raise
                _stop(f"turnout: {error}")
            except KeyboardInterrupt:
                if debug:
                    raise
                _stop("turnout: interrupted; the same command continues where this one stopped")

        own = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
        parameters = [*_arranged(own, list(generated.values())), *hidden, _DEBUG]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def print_json(result: Mapping[str, object]) -> None:
    """Print one JSON object on stdout; an undefined figure is null, never NaN."""
    print(json_module.dumps(result, indent=2, ensure_ascii=False, allow_nan=False))


def _arranged(own: list[inspect.Parameter], generated: list[inspect.Parameter]) -> list[inspect.Parameter]:
    """The function's own parameters with the generated options before those that concern loading and output."""
    last = ("adapter", "dtype", "device", "revision", "trust_remote_code", "dry_run", "out", "json")
    end = [p for p in own if p.name in last]
    return (
        [p.replace(kind=p.KEYWORD_ONLY) for p in own if p.name not in last]
        + generated
        + [p.replace(kind=p.KEYWORD_ONLY) for p in end]
    )


def _option(name: str, field: FieldInfo, hidden: bool = False) -> inspect.Parameter:
    """One field as an option whose default is None, "not given".

    Entries of the field's `json_schema_extra`: `option`, its flag or flags; `former`, a flag that is still accepted;
    `metavar`, the form of text that the field's validator reads; `text`, to leave that reading to the function.
    """
    extra = _extra(field)
    option = "--" + name.replace("_", "-") if hidden else extra.get("option", "--" + name.replace("_", "-"))
    flags = [str(flag) for flag in option] if isinstance(option, list) else [str(option)]
    kind, least = _plain(field.annotation), _least(field)
    info: dict[str, Any] = {"help": _help(field), "show_default": False, "hidden": hidden}
    annotation: Any = kind | None if kind in (int, float, str) else Any
    if extra.get("text"):
        annotation, kind = str | None, str
        info["metavar"] = extra.get("metavar")
    if kind is bool:
        annotation = bool | None
        flags = flags if field.default is False else [f"{flags[0]}/--no-{flags[0].removeprefix('--')}"]
    elif get_origin(kind) is Literal and "metavar" not in extra:
        annotation = kind | None
    elif kind in (int, float):
        info["min"] = least
    elif kind is Path:
        annotation = Path | None
    elif annotation is Any:
        info |= {"parser": _parser(field), "metavar": str(extra.get("metavar", "A,B,…"))}
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[annotation, typer.Option(*flags, **info)],
    )


def _extra(field: FieldInfo) -> dict[str, Any]:
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}


def _name_of(flag: str) -> str:
    """The parameter of an option: `--most-tokens` is `most_tokens`."""
    return flag.removeprefix("--").replace("-", "_")


def _parser(field: FieldInfo) -> Callable[[str], Any]:
    """A function from an option's text to the field's value; exit status 2 for text that does not parse."""
    adapter: TypeAdapter[Any] = TypeAdapter(Annotated[field.annotation, *field.metadata])  # type: ignore[arg-type]

    def parse(text: str) -> Any:
        try:
            return adapter.validate_python(text)
        except ValidationError as error:
            raise typer.BadParameter(f"expected {_examples(field)}, got {text}") from error

    parse.__name__ = "text"
    return parse


def _examples(field: FieldInfo) -> str:
    return str(field.examples[0]) if field.examples else "numbers such as 4,8"


def _plain(annotation: Any) -> Any:
    """The annotation without None."""
    parts = [part for part in get_args(annotation) if part is not type(None)]
    optional = get_origin(annotation) in (types.UnionType, Union) and type(None) in get_args(annotation)
    return parts[0] if optional and len(parts) == 1 else annotation


def _least(field: FieldInfo) -> float | int | None:
    return next((bound.ge for bound in field.metadata if isinstance(bound, Ge)), None)  # type: ignore[return-value]


def _help(field: FieldInfo) -> str:
    """The field's description with its default, as `--help` shows it."""
    text = " ".join((field.description or "").split())
    default = field.default
    if default is None or default == () or isinstance(default, bool) or "[default" in text or field.is_required():
        return text
    if isinstance(default, tuple):
        default = ",".join(f"{part:g}" if isinstance(part, float) else str(part) for part in default)
    return f"{text} [default: {default:g}]" if isinstance(default, float) else f"{text} [default: {default}]"


def _is_section(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, Section)


def _stop(line: str) -> None:
    print(line, file=sys.stderr)
    raise typer.Exit(1)
