"""Rules for what lies beside src: no private names, no imports of tests in benchmarks, no assert that cannot fail."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("tests", "benchmarks", "experiments")
FILES = {folder: sorted((ROOT / folder).rglob("*.py")) for folder in FOLDERS}
PARSED = {path: ast.parse(path.read_text(encoding="utf-8")) for paths in FILES.values() for path in paths}
OF_OTHERS = {"_parameters"}  # torch's; a function of src has the same name


def is_private(name: str) -> bool:
    """One leading underscore and none at the end, which protocols such as `_repr_html_` have."""
    return name.startswith("_") and not name.startswith("__") and not name.endswith("_")


def private_names(tree: ast.AST) -> Iterator[str]:
    """Private names that a file of src defines: functions, classes, variables and attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


SOURCES = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "src").rglob("*.py")]
PRIVATE = {name for tree in SOURCES for name in private_names(tree) if is_private(name)} - OF_OTHERS


def private_uses(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of each use of a private name of src: imports, attributes, and strings for monkeypatching."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "turnout":
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            yield from ((node.lineno, name) for name in names if is_private(name))
        elif isinstance(node, ast.Attribute) and node.attr in PRIVATE:
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
                yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("setattr", "delattr", "getattr", "patch")):
            strings = [x.value for x in node.args if isinstance(x, ast.Constant) and isinstance(x.value, str)]
            yield from ((node.lineno, text) for text in strings if text.rpartition(".")[2] in PRIVATE)


def hollow_asserts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of asserts that cannot fail: on a literal or generator, or with a comparison as message."""
    literal = ast.Tuple | ast.List | ast.Dict | ast.Set | ast.Constant | ast.JoinedStr | ast.Lambda | ast.GeneratorExp
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            same = isinstance(node.test, ast.Compare) and all(
                ast.dump(node.test.left) == ast.dump(right) for right in node.test.comparators
            )
            if isinstance(node.test, literal) or same or isinstance(node.msg, ast.Compare):
                yield node.lineno, ast.unparse(node)


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("rule", [private_uses, hollow_asserts])
def test_rule(folder, rule):
    found = [f"{path.relative_to(ROOT)}:{line}: {what}" for path in FILES[folder] for line, what in rule(PARSED[path])]
    assert FILES[folder]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (private_uses, "from turnout.sub import _name"),
        (private_uses, "from turnout._sub import name"),
        (private_uses, f"module.{min(PRIVATE)}(3)"),
        (private_uses, f"monkeypatch.setattr(module, '{min(PRIVATE)}', None)"),
        (private_uses, f"patch('turnout.sub.{min(PRIVATE)}')"),
        (hollow_asserts, "assert a, b == (1, 2)"),
        (hollow_asserts, "assert (a == 1, b)"),
        (hollow_asserts, "assert (x for x in y)"),
        (hollow_asserts, "assert x == x"),
    ],
)
def test_a_rule_finds_what_it_is_for(rule, code):
    assert len(list(rule(ast.parse(code)))) == 1


@pytest.mark.parametrize("path", FILES["benchmarks"], ids=lambda path: path.name)
def test_benchmarks_import_nothing_from_tests(path):
    nodes = list(ast.walk(PARSED[path]))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    of_tests = {"tests"} | {entry.stem for entry in (ROOT / "tests").iterdir()}
    assert not {name.split(".")[0] for name in names} & of_tests
    assert "tests" not in {node.value for node in nodes if isinstance(node, ast.Constant)}
