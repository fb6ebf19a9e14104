"""Writes the README's tree, one line a file, from the first line of each file's docstring: `python docs/tree.py`."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "turnout"
BEGIN, END = "<!-- tree: written by `make docs` -->\n", "<!-- end of tree -->"


def tree() -> str:
    """Every source file with what it holds."""
    lines = ["src/turnout/"]
    for path in sorted(SOURCE.rglob("*.py"), key=lambda p: (p.parent != SOURCE, p.parts)):
        inside = path.relative_to(SOURCE)
        if path.name == "__init__.py" and len(inside.parts) > 1:
            lines.append(f"  {inside.parent}/")
        if comment := _first_line(path):
            lines.append(f"  {'  ' * (len(inside.parts) - 1)}{path.name:<24}{comment}")
    return "\n".join(lines)


def readme() -> str:
    """The README with its tree as the code stands."""
    before, _, rest = (ROOT / "README.md").read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n```\n{tree()}\n```\n\n{END}{after}"


def _first_line(path: Path) -> str | None:
    module = ast.parse(path.read_text(encoding="utf-8"))
    text = ast.get_docstring(module)
    if text is None:  # a formula's file: its first public function says what it is
        functions = [n for n in module.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name[0] != "_"]
        text = next((doc for doc in map(ast.get_docstring, functions) if doc), None)
    return text.splitlines()[0] if text else None


if __name__ == "__main__":
    (ROOT / "README.md").write_text(readme(), encoding="utf-8")
