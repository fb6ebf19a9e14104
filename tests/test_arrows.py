"""Imports run one way: each room may look only at the rooms below it, and only some rooms may see torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "turnout"
BOTTOM = {"errors", "options", "progress", "quantities"}
MIDDLE = {"models", "tasks", "runs"}

LOW = BOTTOM | MIDDLE | {"ops", "training"}
VERBS = {
    "aligning", "auditing", "comparing", "coupling", "evaluating", "exchange", "masking", "reasoning", "sparsity",
    "upcycling",
}  # fmt: skip

MAY_IMPORT = {
    "errors": set(),
    "progress": set(),
    "options": {"errors"},
    "quantities": {"errors"},
    "ops": set(),
    "models": BOTTOM | {"ops"},
    "tasks": BOTTOM,
    "runs": BOTTOM,
    "training": BOTTOM | MIDDLE | {"ops"},
    "embedded": LOW,
    **dict.fromkeys(VERBS, LOW),
    # What is read of audits: their results, never their work.
    "masking": LOW | {"auditing"},
    "comparing": LOW | {"auditing"},
    "exchange": LOW | {"auditing"},
    # A sweep asks its trained models as GRPO and voting do.
    "sparsity": LOW | {"reasoning"},
    "report": BOTTOM | {"runs"},
    "api": LOW | VERBS | {"embedded", "report"},
    "cli": LOW | VERBS | {"embedded", "report", "api"},
    "__main__": {"cli"},
    "__init__": VERBS | {"api", "models", "ops", "errors"},
}

FILES = sorted(SOURCE.rglob("*.py"))


def room(path: Path) -> str:
    """The room that a source file stands in: the folder, or the file's own name at the top."""
    parts = path.relative_to(SOURCE).parts
    return parts[0] if len(parts) > 1 else path.stem


def imported(path: Path) -> set[str]:
    """Dotted names that a file imports, at any depth; `from turnout import x` counts as turnout.x."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_every_room_has_its_rule():
    assert {room(path) for path in FILES} <= set(MAY_IMPORT)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_down(path):
    own = room(path)
    for name in imported(path):
        parts = name.split(".")
        if parts[0] != "turnout" or parts[1:2] in ([own], ["__version__"]):
            continue
        assert parts[1] in MAY_IMPORT[own], f"{own} imports {name}"


@pytest.mark.parametrize("path", [p for p in FILES if room(p) == "ops"], ids=lambda p: p.name)
def test_ops_see_tensors_only(path):
    allowed = {"torch", "jaxtyping", "dataclasses", "math", "typing", "collections", "turnout"}
    assert {name.split(".")[0] for name in imported(path)} <= allowed


@pytest.mark.parametrize("path", [p for p in FILES if room(p) in {"report", "tasks", "runs"}], ids=lambda p: p.name)
def test_rooms_without_torch(path):
    assert not {name.split(".")[0] for name in imported(path)} & {"torch", "transformers"}


@pytest.mark.parametrize("module", ["turnout", "turnout.cli.main", "turnout.report", "turnout.tasks", "turnout.runs"])
def test_importing_is_cheap(module):
    code = f"import sys, {module}; sys.exit(bool({{'torch', 'transformers'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
