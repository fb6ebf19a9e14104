"""Fixtures that several rooms use. `tests/` and `benchmarks/` are on the import path: `from tiny import tiny_model`."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# One thread a process, and in the processes that tests start: two test workers fill two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# "auto", the default device, is the CPU on every machine: tests mix models with tensors of their own.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")


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


@pytest.fixture(scope="module")
def few_draws():
    """Resamples, permutations and rotations by the handful, for a whole module."""
    from auditing.few import few_draws as make_few

    with pytest.MonkeyPatch.context() as patch:
        make_few(patch.setattr)
        yield


@pytest.fixture(scope="session")
def half_taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a MoE that was trained on chains of one operation for a few seconds."""
    from turnout import train

    recipe = {
        "model": {"hidden_size": 32, "layers": 1, "heads": 2, "experts": 4, "top_k": 2, "expert_width": 32},
        "data": {
            "tokenizer": "exercises",
            "sequence_length": 48,
            "evaluation_tokens": 96,
            "sources": [{"name": "chains", "chains": [1], "samples": 500}],
        },
        "schedule": {"tokens": 60 * 8 * 48, "batch_size": 8, "learning_rate": 0.01},
    }
    return train(recipe, tmp_path_factory.mktemp("half-taught") / "run").model


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    """Headless Chromium from PATH; the test is skipped without one, or fails if TURNOUT_REQUIRE_BROWSER is 1."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        reason = "no chromium on PATH"
        if os.environ.get("TURNOUT_REQUIRE_BROWSER") == "1":
            pytest.fail(f"{reason}, and TURNOUT_REQUIRE_BROWSER=1 demands it")
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=flags)
        yield started
        started.close()
