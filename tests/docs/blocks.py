"""Fenced code blocks of the documentation, with the markers that say why some are not run."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
# What a block may be: commands, Python, a recipe, or text that nobody runs (output, formats, file trees).
LANGUAGES = {"bash", "python", "yaml", "json", "text"}
_FENCE = re.compile(r"^```(?P<info>.*)$")
_MARKER = re.compile(r"^<!-- not run: (?P<reason>.+) -->$")
_TITLE = re.compile(r'title="(?P<name>[^"]+)"')


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Args:
        page: its file, relative to the repository.
        line: of its first line of code, from 1.
        language: the first word after the fence.
        title: the file name that a recipe is shown under; None for other blocks.
        code: its text.
        not_run: the reason of a `<!-- not run: … -->` marker above it; None if it is run.
    """

    page: str
    line: int
    language: str
    title: str | None
    code: str
    not_run: str | None

    @property
    def place(self) -> str:
        """Page and line, as an editor opens them."""
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Every page whose blocks are checked."""
    top = [ROOT / "README.md", ROOT / "README.ko.md", ROOT / "CONTRIBUTING.md"]
    return [*top, *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order.

    Raises:
        ValueError: a fence that is not closed.
    """
    lines = page.read_text(encoding="utf-8").splitlines()
    above, number = "", 0
    while number < len(lines):
        opening = _FENCE.match(lines[number])
        if opening is None:
            above = lines[number] or above
            number += 1
            continue
        end = next((n for n in range(number + 1, len(lines)) if lines[n] == "```"), None)
        if end is None:
            raise ValueError(f"{page}:{number + 1}: a fence that is not closed")
        info, marker = opening["info"], _MARKER.match(above)
        title = _TITLE.search(info)
        yield Block(
            page=str(page.relative_to(ROOT)),
            line=number + 2,
            language=info.partition(" ")[0],
            title=title["name"] if title else None,
            code="\n".join(lines[number + 1 : end]) + "\n",
            not_run=marker["reason"] if marker else None,
        )
        above, number = "", end + 1
