"""Write the folder tree of docs/architecture.md from docstrings and imports: `python docs/tree.py`."""

import ast
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "turnout"
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- tree: written by `make docs` -->\n", "<!-- end of tree -->"
# From the bottom up; a room that is not listed follows in alphabetical order before `report`.
BOTTOM = ["ops", "models", "tasks", "runs", "training"]
TOP = ["report", "api", "cli", "embedded"]
_COLUMN, _WIDTH = 18, 96


def page() -> str:
    """The architecture page with the tree of the current code."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n```text\n{tree()}\n```\n\n{END}{after}"


def tree() -> str:
    """One line a room or sub-room: its name and its package's docstring; below it the rooms that it imports."""
    lines = ["src/turnout/"]
    lines += [_line(path.name, _summary(path), 1) for path in sorted(SOURCE.glob("*.py")) if _summary(path)]
    for room in _ordered([path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists()]):
        folder = SOURCE / room
        lines.append(_line(f"{room}/", _summary(folder / "__init__.py"), 1))
        if arrows := _imports(folder):
            lines.append(_line("", f"→ {', '.join(_ordered(arrows))}", 1))
        lines += [
            _line(f"{inner.parent.name}/", _summary(inner), 2)
            for inner in sorted(folder.glob("*/__init__.py"))
            if _summary(inner)
        ]
    return "\n".join(lines)


def _line(name: str, text: str, depth: int) -> str:
    """A name and its text, wrapped beside it."""
    first = f"{'  ' * depth}{name:<{_COLUMN - 2 * depth}}"
    wrapped = textwrap.wrap(text, _WIDTH, initial_indent=first, subsequent_indent=" " * _COLUMN)
    return "\n".join(wrapped) or first.rstrip()


def _ordered(rooms: list[str] | set[str]) -> list[str]:
    verbs = sorted(set(rooms) - set(BOTTOM) - set(TOP))
    return [room for room in [*BOTTOM, *verbs, *TOP] if room in rooms]


def _summary(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def _imports(folder: Path) -> set[str]:
    """Rooms that the files of a room import; the modules at the top of the package are left out."""
    rooms = {path.name for path in SOURCE.iterdir() if path.is_dir()}
    names = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
    imported = {name.split(".")[1] for name in names if name.startswith("turnout.")}
    return (imported & rooms) - {folder.name}


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
