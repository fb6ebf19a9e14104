"""Fixtures that more than one room's tests use. `tests/` itself is importable: `from tiny import tiny_model`."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# One thread a process, and in the processes that tests start: two test workers fill two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`checkpoint("olmoe")` is a folder with that family's tiny random checkpoint; one a session, read only."""
    from tiny import tiny_model

    made: dict[str, Path] = {}

    def make(family: str) -> Path:
        if family not in made:
            made[family] = tiny_model(family, tmp_path_factory.mktemp(family))
        return made[family]

    return make
