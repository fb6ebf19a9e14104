"""Griffe extension of the site: fence `>>>` lines of docstrings, which Markdown would read as quotes and links."""

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"(?:^[ ]*(?:>>>|\.\.\.) .*\n?)+", re.MULTILINE)


class DoctestBlocks(griffe.Extension):
    """Rewrite every docstring as it is loaded."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Fence the examples of one object's docstring."""
        if obj.docstring:
            obj.docstring.value = _EXAMPLE.sub(_fenced, obj.docstring.value)


def _fenced(match: re.Match[str]) -> str:
    lines = [re.sub(r"^\s*(?:>>>|\.\.\.) ", "", line) for line in match[0].rstrip("\n").splitlines()]
    return "\n".join(["```python", *lines, "```", ""])
