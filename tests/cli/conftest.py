"""Runs of the command line, inside this process (quick) or as a process of its own (as a user does)."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

LETTERS = "ABCD"


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    def json(self) -> dict:
        """The one JSON object on stdout."""
        return json.loads(self.out)


@pytest.fixture
def turnout() -> Callable[..., Ran]:
    """`turnout("audit", folder, "--json")` runs the verb in this process."""
    from turnout.cli.main import app

    def run(*words: object) -> Ran:
        result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
        return Ran(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def turnout_process() -> Callable[..., Ran]:
    """Run the command line in a process of its own."""

    def run(*words: object) -> Ran:
        command = [sys.executable, "-m", "turnout", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


def write_jsonl(path: Path, rows: Sequence[dict]) -> Path:
    """`rows` as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def questions(n_subjects: int = 4, n_each: int = 3) -> list[dict]:
    """Rows of a task file: two domains, each subject in one."""
    return [
        {
            "question": f"What is {s} + {i}" + " again" * (i * s % 7) + "?",
            "choices": [str(s + i + shift) for shift in range(4)],
            "answer": LETTERS[0],
            "subject": f"sums {s}",
            "domain": "even" if s % 2 == 0 else "odd",
        }
        for s in range(n_subjects)
        for i in range(n_each)
    ]


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """A small task file of two domains."""
    return write_jsonl(tmp_path / "tasks.jsonl", questions())
