"""Trials in processes of their own: a NAME.json for each that is done, a NAME.error for each that failed.

A trial that was killed leaves neither and is run again by the next call; a failed one is run again when its .error file
is removed.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from turnout.runs import atomic

Job = TypeVar("Job")


def parser(description: str) -> argparse.ArgumentParser:
    """Command line with the number of processes."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--processes", type=int, default=2, help="trials at the same time, each on one thread")
    return made


def is_done(results: Path, name: str) -> bool:
    """Whether a trial has a result or an error."""
    return any((results / f"{name}.{ending}").exists() for ending in ("json", "error"))


def write_result(results: Path, name: str, content: dict[str, Any]) -> None:
    """Write NAME.json, whole or not at all."""
    results.mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(results / f"{name}.json", json.dumps(content, default=str).encode())


def write_error(results: Path, name: str, text: str) -> None:
    """Write the end of `text` to NAME.error."""
    results.mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(results / f"{name}.error", text[-4000:].encode())


def read_results(results: Path) -> dict[str, dict[str, Any]]:
    """{name: content} of every result, sorted by name."""
    return {file.stem: json.loads(file.read_text("utf-8")) for file in sorted(results.glob("*.json"))}


def run_module(module: str, argument: object, results: Path, names: Sequence[str]) -> None:
    """Run `python -m module JSON` on one thread; trials of `names` that it leaves without a result are errors.

    Unless a signal ended it: then they are run again by the next call.
    """
    command = [sys.executable, "-m", module, json.dumps(argument)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    for name in names:
        if done.returncode > 0 and not is_done(results, name):
            write_error(results, name, done.stderr)
    print(*names, "done" if done.returncode == 0 else f"failed: {done.stderr[-300:]}", flush=True)


def run_all(start: Callable[[Job], None], jobs: Iterable[Job], processes: int) -> None:
    """Call `start` for every job, `processes` at a time."""
    with ThreadPoolExecutor(processes) as pool:
        list(pool.map(start, list(jobs)))
