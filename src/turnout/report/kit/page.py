"""One self-contained page: a template with style, data and scripts inline, that loads nothing.

Values of a run are in one JSON block, escaped so that no value can close a tag; scripts place them as text. The page's
Content-Security-Policy allows the two scripts whose digests it names, and no connection.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnout.errors import RunError
from turnout.runs import RunFolder

KIT_SCRIPTS = ("kit/elements.js", "kit/numbers.js", "kit/charts.js")
KIT_STYLE = "kit/page.css"

_ESCAPES = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}


def assemble_page(template: str, scripts: Sequence[str], data: Mapping[str, Any], styles: Sequence[str] = ()) -> str:
    """The HTML of one page.

    Args:
        template: the page's HTML file, as a path below `turnout/report`.
        scripts: the page's own scripts, in order; those of the kit are before them.
        data: what the scripts draw, as JSON.
        styles: the page's own style sheets, after that of the kit.
    """
    script = "".join(_asset(name) for name in (*KIT_SCRIPTS, *scripts))
    parts = {
        "policy": _policy(script, _plotly()),
        "style": "".join(_asset(name) for name in (KIT_STYLE, *styles)),
        "data": escaped_json(data),
        "script": script,
        "plotly": _plotly(),
    }
    shared = {name: _filled(_asset(f"kit/{name}.html"), parts) for name in ("head", "scripts")}
    return _filled(_asset(template), shared)


def read_content(folder: RunFolder, file: str, what: str, schema: int = 1) -> dict[str, Any]:
    """The JSON object in a finished run's `file`, with its digest and schema checked.

    Args:
        folder: the run.
        file: a JSON file of the run, such as plan.json.
        what: what the file contains, for the error: "a plan".
        schema: the schema that the page can draw.

    Raises:
        RunError: the file is missing, damaged or of another schema.
    """
    content = folder.read_json(file)
    if content.get("schema") != schema:
        raise RunError(folder.path / file, expected=f"{what} of schema {schema}", received=content.get("schema"))
    return content


def packed(array: NDArray[np.float64]) -> dict[str, Any]:
    """An array as its shape and the base64 of its little-endian float32 bytes: smaller than JSON numbers."""
    raw = np.ascontiguousarray(array, dtype="<f4").tobytes()
    return {"shape": list(array.shape), "bytes": base64.b64encode(raw).decode("ascii")}


def packed_shares(values: NDArray[np.float64]) -> dict[str, Any]:
    """An array of numbers of at least 0 as its shape, its largest value and base64 of 16-bit shares of the largest.

    Half the size of float32. The error of an entry is at most 1/131,070 of the largest.
    """
    largest = float(values.max()) if values.size else 0.0
    shares = np.round(values / (largest or 1.0) * 65535).astype("<u2")
    coded = base64.b64encode(shares.tobytes()).decode("ascii")
    return {"shape": list(values.shape), "largest": largest, "bytes": coded}


def escaped_json(value: object) -> str:
    """`value` as JSON for a script element: <, >, & and line separators only as escapes.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(_ESCAPES)


def parsed_once(source: str) -> str:
    """plotly.js with its one large function in parentheses; unchanged where the bundle has another form.

    Chromium compiles a function in parentheses at once. Without them it first parses the function for errors alone,
    which takes a tenth of a second here. The program is the same.
    """
    start, end = ": this, () => {", "\n}));"
    if source.count(start) != 1 or not source.rstrip().endswith(end):
        return source
    return f"{source.rstrip().removesuffix(end).replace(start, ': this, (() => {')}\n}})));"


def _filled(template: str, parts: Mapping[str, str]) -> str:
    """`template` with each {{name}} replaced, once: a {{name}} inside a part stays as it is."""
    return re.sub(r"\{\{(\w+)\}\}", lambda hole: parts[hole[1]], template)


def _policy(*scripts: str) -> str:
    """Content-Security-Policy: these scripts by digest, inline style, images that the page drew; nothing else."""
    digests = " ".join(f"'sha256-{_sha256(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {digests}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


@cache
def _asset(name: str) -> str:
    """A file of this package: script, style sheet or template."""
    return files("turnout.report").joinpath(name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    """plotly.js from the plotly package, with line ends as a browser reads them."""
    source = files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")
    assert "</script" not in source.lower(), "plotly.js would end its own script element"
    return parsed_once(source.replace("\r\n", "\n").replace("\r", "\n"))
