"""A page in headless Chromium: opened from disk with all that it reports or requests; waiting for a condition."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE = 90_000  # milliseconds; other tests may be using the machine
_PATIENCE_OF_CONDITIONS = 30.0  # seconds


@contextmanager
def opened(browser: Any, path: Path, width: int = 1280, scheme: str = "light") -> Iterator[Any]:
    """The page in the file `path`, open; console messages, errors, dialogs and requests fail the test at the end."""
    complaints: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    visit(page, path, complaints)
    yield page
    page.close()
    assert complaints == []


def visit(page: Any, path: Path, complaints: list[str]) -> None:
    """Open the file `path` in `page`; console messages, errors, dialogs and requests are added to `complaints`."""
    address = path.as_uri()
    page.set_default_timeout(PATIENCE)
    page.on("console", lambda message: complaints.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
    page.on("request", lambda request: complaints.append(request.url) if request.url != address else None)
    page.goto(address)


def until(page: Any, condition: str, argument: Any = None) -> None:
    """Wait until the JavaScript `condition` (an expression, or a function of `argument`) holds in `page`.

    Evaluated from here, since the page's policy forbids Playwright's own polling.
    """
    deadline = time.monotonic() + _PATIENCE_OF_CONDITIONS
    while not page.evaluate(condition, argument):
        assert time.monotonic() < deadline, f"not within {_PATIENCE_OF_CONDITIONS:.0f} s: {condition}"
        page.wait_for_timeout(20)
