"""Runs and a browser that the report's tests share."""

from pathlib import Path

import pytest
from report.synthetic import write_run
from report.synthetic_evidence import write_masking

from turnout.report import write_report

HOSTILE = (
    "<script>window.__pwned=1</script>",
    '"><img src=x onerror="window.__pwned=1">',
    '<a href="javascript:window.__pwned=1">click</a>',
    "</script><svg onload=window.__pwned=1>",
    "<b>bold</b> &lt;i&gt; %{x} $x^2$ {{plotly}}",
    "مرحبا بالعالم שלום עולם",
    "\u202eright-to-left override \u2028 \x00 \x1b[31m",
    "x" * 10_000,
    "__proto__",
)


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of 48 layers × 128 experts × 9 domains, with its page."""
    path = tmp_path_factory.mktemp("large") / "run"
    words = [f" word{n}" for n in range(2000)]
    write_run(path, 48, 128, top_k=8, accuracy=True, evidence=True, tokens=words)
    write_masking(path)
    return _reported(path)


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with markup in every name, with its page."""
    path = tmp_path_factory.mktemp("hostile") / "run"
    write_run(path, 3, 8, HOSTILE, shared=1, first_layer=1, model_id=HOSTILE[0], evidence=True, tokens=HOSTILE)
    return _reported(path)


def _reported(path: Path) -> Path:
    write_report(path)
    return path
