"""The site builds strictly, and a browser that opens it loads nothing from elsewhere."""

import functools
import http.server
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from docs.blocks import ROOT

pytestmark = pytest.mark.slow
# What a browser fetches by itself when a page is opened; links that a reader follows are not among it.
LOADED = re.compile(
    r"<(?:script|img|iframe|source|video|audio|embed)\b[^>]*\bsrc=[\"']?(https?:)?//"
    r"|<link\b(?=[^>]*\brel=[\"']?(?:stylesheet|preload|prefetch|preconnect|icon|modulepreload))[^>]*\bhref=[\"']?(https?:)?//"
    r"|@import\s+(?:url\()?[\"']?(https?:)?//|url\([\"']?(https?:)?//"
)
OPENED = ["index.html", "methods/audit.html", "reference/python.html", "findings/sparsity.html"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """No line a request."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_every_page_of_docs_is_built(site):
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert pages <= {path.relative_to(site) for path in site.rglob("*.html")}


def test_nothing_is_loaded_from_elsewhere(site):
    files = [*site.rglob("*.html"), *site.rglob("*.css")]
    assert len(files) > 30
    found = {str(path): LOADED.search(path.read_text(encoding="utf-8")) for path in files}
    assert not {path: match[0] for path, match in found.items() if match}


def test_pattern_finds_what_a_browser_loads():
    for html in (
        '<script src="https://cdn.example/x.js">',
        '<link rel="stylesheet" href="https://fonts.example/css">',
        "<link href=//fonts.example rel=preconnect>",
        "@import url(https://fonts.example)",
    ):
        assert LOADED.search(html)
    assert not LOADED.search('<a href="https://example.org"><img src="a.png"><link rel="canonical" href="https://a">')


@pytest.mark.browser
def test_browser_asks_only_this_server(address, browser):
    asked: list[str] = []
    errors: list[str] = []
    page = browser.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    for name in OPENED:
        page.goto(f"{address}/{name}", wait_until="networkidle")
    page.keyboard.press("/")
    page.keyboard.type("committee")
    page.wait_for_selector(".md-search-result__item")
    page.close()
    assert not errors
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
