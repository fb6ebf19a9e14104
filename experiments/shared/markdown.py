"""Markdown tables, sections of them, and their place in a page of the docs."""

from collections.abc import Iterable, Sequence
from pathlib import Path

_END = "<!-- end of results -->"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown table; empty if there are no rows."""
    rows = list(rows)
    lines = [head, ["---"] * len(head), *rows] if rows else []
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def sections(parts: Iterable[tuple[str, str]]) -> str:
    """(title, body) pairs as Markdown; a pair without body is left out, one without title follows the one before."""
    return "".join((f"### {title}\n\n" if title else "") + body + "\n" for title, body in parts if body)


def inject(page: Path, script: str, text: str) -> None:
    """Replace the part of `page` between the mark that names `script` and the end mark.

    Raises:
        ValueError: the page has no such marks.
    """
    begin = f"<!-- results: written by {script} -->\n"
    content = page.read_text("utf-8")
    before, found, rest = content.partition(begin)
    _, closed, after = rest.partition(_END)
    if not found or not closed:
        raise ValueError(f"{page}: expected the marks {begin.strip()} and {_END}, got a page without them")
    page.write_text(f"{before}{begin}\n{text}{_END}{after}", "utf-8")
