"""Waiting for a page to get somewhere, asked from here: the page's own policy forbids what Playwright polls with."""

import time
from typing import Any

_PATIENCE = 30.0


def until(page: Any, condition: str, argument: Any = None) -> None:
    """Wait until the JavaScript `condition` (an expression, or a function of `argument`) holds in `page`."""
    deadline = time.monotonic() + _PATIENCE
    while not page.evaluate(condition, argument):
        assert time.monotonic() < deadline, f"not within {_PATIENCE:.0f} s: {condition}"
        page.wait_for_timeout(20)
