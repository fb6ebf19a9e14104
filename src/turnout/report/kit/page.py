"""What every page of this package is made of: one file, data, style and scripts inlined, nothing loaded or interpreted.

What comes from a run stands in one JSON block, escaped so that it can close no tag, and reaches the page as text only.
The page's policy lets run no script but the two whose digests it names, and lets nothing connect anywhere.
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

_ESCAPES = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}


def assembled(template: str, scripts: Sequence[str], data: Mapping[str, Any]) -> str:
    """A page of this package: the template between the head and scripts that all pages share."""
    script = "".join(_asset(name) for name in scripts)
    parts = {
        "policy": _policy(script, _plotly()),
        "style": _asset("kit/page.css"),
        "data": escaped_json(data),
        "script": script,
        "plotly": _plotly(),
    }
    shared = {name: _filled(_asset(f"kit/{name}.html"), parts) for name in ("head", "scripts")}
    return _filled(_asset(template), shared)


def _filled(template: str, parts: Mapping[str, str]) -> str:
    """`template` with each {{name}} replaced, once: a hole inside a part stays as it is."""
    return re.sub(r"\{\{(\w+)\}\}", lambda hole: parts[hole[1]], template)


def packed(array: NDArray[np.float64]) -> dict[str, Any]:
    """An array as its shape and base64 of its little-endian float32 bytes: small, and read at once."""
    raw = np.ascontiguousarray(array, dtype="<f4").tobytes()
    return {"shape": list(array.shape), "bytes": base64.b64encode(raw).decode("ascii")}


def escaped_json(value: object) -> str:
    """`value` as JSON that may stand inside a script element: <, >, & and line separators only as escapes."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(_ESCAPES)


def _policy(*scripts: str) -> str:
    """What the page may do: run these scripts and no other, style itself, show images that it drew; load nothing."""
    digests = " ".join(f"'sha256-{_sha256(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {digests}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


@cache
def _asset(name: str) -> str:
    return files("turnout.report").joinpath(name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    """plotly.js as the plotly package carries it, line ends as a browser reads them."""
    source = files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")
    assert "</script" not in source.lower(), "plotly.js would end its own script element"
    return _parsed_once(source.replace("\r\n", "\n").replace("\r", "\n"))


def _parsed_once(source: str) -> str:
    """The bundle with its one large function in parentheses, where it is made as expected.

    Chromium compiles a function in parentheses at once; others it first parses for errors alone, which costs a tenth of
    a second here. The program is the same.
    """
    start, end = ": this, () => {", "\n}));"
    if source.count(start) != 1 or not source.rstrip().endswith(end):
        return source
    return f"{source.rstrip().removesuffix(end).replace(start, ': this, (() => {')}\n}})));"
