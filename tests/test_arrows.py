"""Imports run one way: each room may look only at the rooms below it, and only some rooms may see torch."""

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "turnout"
BOTTOM = {"errors", "lazy", "listener", "quantities", "settings"}
MIDDLE = {"models", "tasks", "runs"}

LOW = BOTTOM | MIDDLE | {"ops", "training"}
VERBS = {
    "aligning", "auditing", "comparing", "coupling", "evaluating", "exchange", "masking", "reasoning", "sparsity",
    "upcycling",
}  # fmt: skip

MAY_IMPORT = {
    "errors": set(),
    "lazy": set(),
    "listener": set(),
    "settings": {"errors"},
    "quantities": {"errors"},
    "ops": set(),
    "models": BOTTOM | {"ops"},
    "tasks": BOTTOM,
    "runs": BOTTOM,
    "training": BOTTOM | MIDDLE | {"ops"},
    "embedded": LOW,
    **dict.fromkeys(VERBS, LOW),
    # These read an audit's results; they never run one.
    "masking": LOW | {"auditing"},
    "comparing": LOW | {"auditing"},
    "exchange": LOW | {"auditing"},
    # A sweep scores its trained models with the answering loop of GRPO and voting.
    "sparsity": LOW | {"reasoning"},
    "report": BOTTOM | {"runs"},
    "api": LOW | VERBS | {"embedded", "report"},
    "cli": LOW | VERBS | {"embedded", "report", "api"},
    "__main__": {"cli"},
    "__init__": VERBS | BOTTOM | MIDDLE | {"api", "ops", "training"},
}

FILES = sorted(SOURCE.rglob("*.py"))


def room(path: Path) -> str:
    """The room of a source file: its folder, or the file's own name at the top."""
    parts = path.relative_to(SOURCE).parts
    return parts[0] if len(parts) > 1 else path.stem


ROOMS = sorted({room(path) for path in FILES})


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


def check(name: str, allowed: Callable[[str], bool]) -> None:
    """Fail with one line `file imports name` for every import of a room that is not allowed."""
    files = [path for path in FILES if room(path) == name]
    assert files, f"{name}: no files"
    wrong = [f"{path.relative_to(SOURCE)} imports {x}" for path in files for x in imported(path) if not allowed(x)]
    assert not wrong, "\n".join(sorted(wrong))


def test_every_room_has_its_rule():
    assert set(ROOMS) == set(MAY_IMPORT)


@pytest.mark.parametrize("name", ROOMS)
def test_imports_point_down(name):
    def allowed(dotted: str) -> bool:
        package, *rest = dotted.split(".")
        return package != "turnout" or bool({name, "__version__", *MAY_IMPORT[name]} & set(rest[:1]))

    check(name, allowed)


def test_ops_see_tensors_only():
    packages = {"torch", "jaxtyping", "dataclasses", "math", "typing", "collections", "turnout"}
    check("ops", lambda dotted: dotted.split(".")[0] in packages)


@pytest.mark.parametrize("name", ["report", "tasks", "runs"])
def test_rooms_without_torch(name):
    check(name, lambda dotted: dotted.split(".")[0] not in {"torch", "transformers"})


@pytest.mark.parametrize("module", ["turnout", "turnout.cli.main", "turnout.report", "turnout.tasks", "turnout.runs"])
def test_importing_is_cheap(module):
    code = f"import sys, {module}; sys.exit(bool({{'torch', 'transformers'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
