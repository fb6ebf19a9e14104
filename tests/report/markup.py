"""A page's HTML read as text: its tags, scripts and embedded data."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any


class Elements(HTMLParser):
    """Start tags with their attributes, and the text of script elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._script = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._script = tag == "script"
        if self._script:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._script = False

    def handle_data(self, data: str) -> None:
        if self._script:
            self.scripts[-1] += data


def embedded(page: str) -> dict[str, Any]:
    """The data in a page's JSON block."""
    return json.loads(Elements(page).scripts[0])


def read_page(run: Path) -> str:
    """A run's report.html."""
    return (run / "report.html").read_text(encoding="utf-8")
