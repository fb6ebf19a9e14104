"""Opening time, in Chromium, of the page of an audit of 48 layers × 128 experts × 9 domains.

    python benchmarks/page_opening.py [--smoke] [--times 9] [--page report.html]

The audit is of a random model on mmlu-dev, with budgets and masking. Each opening is a browser of its own, driven over
a pipe with as few commands as possible: a debugger that is attached to the console makes every error in a script
collect its source positions. Wall times since navigation.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from machine import machine, table

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--window-size=1280,900")
READ = """new Promise((done) => {
  const [page] = performance.getEntriesByType("navigation");
  new PerformanceObserver((list) => {
    const text = list.getEntries().at(-1).startTime;  // the largest text on screen is written by the page's script
    done({ text, interactive: page.domContentLoadedEventEnd });
  }).observe({ type: "largest-contentful-paint", buffered: true });
})"""
STEPS = {"first figures": "profile-coverage", "map": "map", "one layer": "plane", "masking": "masking-0"}
DRAW = """(async (id) => {
  const from = performance.now();
  const node = document.getElementById(id);
  node.scrollIntoView();
  while (!node.dataset.drawn) await new Promise((done) => setTimeout(done, 4));
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));
  return performance.now() - from;
})"""


class Browser:
    """A Chromium at the other end of two pipes, driven by the DevTools protocol."""

    def __init__(self, process: "subprocess.Popen[bytes]", write: int, read: int) -> None:
        self._process, self._write, self._read = process, write, read
        self._sent, self._rest = 0, b""

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Result of a command; events that arrive before it are discarded."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._sent:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def wait(self, event: str) -> None:
        """Block until the browser reports `event`."""
        while self._next().get("method") != event:
            continue

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = os.read(self._read, 1 << 20)
            if not more:
                raise RuntimeError(f"the browser has gone, exit status {self._process.wait()}")
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\0")
        return json.loads(line)


def chromium_path() -> str | None:
    """Path of a Chromium or Chrome; None where there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser without history or cache, ended afterwards."""
    path = chromium_path()
    assert path is not None
    (theirs, write), (read, theirs_too) = os.pipe(), os.pipe()

    def plug() -> None:
        copies = os.dup(theirs), os.dup(theirs_too)  # 3 and 4 themselves may be among the pipes' ends
        for copy, place in zip(copies, (3, 4), strict=True):
            os.dup2(copy, place)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [path, *FLAGS, f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"]
        process = subprocess.Popen(command, preexec_fn=plug, close_fds=False, stderr=subprocess.DEVNULL)
        os.close(theirs)
        os.close(theirs_too)
        try:
            yield Browser(process, write, read)
        finally:
            process.terminate()
            process.wait()
            os.close(write)
            os.close(read)


def open_once(page: Path) -> dict[str, float]:
    """Milliseconds of one opening."""
    with browser() as chromium:
        targets = chromium.call("Target.getTargets")["targetInfos"]
        target = next(of["targetId"] for of in targets if of["type"] == "page")
        session = chromium.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        chromium.call("Page.enable", session)
        chromium.call("Page.navigate", session, url=page.as_uri())
        chromium.wait("Page.loadEventFired")
        times = _evaluate(chromium, session, READ)
        for name, figure in STEPS.items():
            times[name] = _evaluate(chromium, session, f"{DRAW}({json.dumps(figure)})")
    return times


def _evaluate(chromium: Browser, session: str, script: str) -> Any:
    answer = chromium.call("Runtime.evaluate", session, expression=script, awaitPromise=True, returnByValue=True)
    return answer["result"]["value"]


def write_page(folder: Path, layers: int, experts: int, limit: int | None) -> Path:
    """Audit and mask a random model in `folder`; return the page of the audit."""
    from random_model import embedded_tokenizer, random_olmoe

    import turnout
    from turnout.models.wrap.anatomy import read
    from turnout.report import write_report

    tokenizer = embedded_tokenizer()
    sizes = {"hidden": 32, "heads": 2, "expert_width": 8, "top_k": 8, "vocabulary": len(tokenizer)}
    moe = read(random_olmoe(layers=layers, experts=experts, **sizes), tokenizer, "benchmark")
    run = folder / "run"
    turnout.audit(moe, "mmlu-dev", run, answers=True, budgets=(4, 8), limit=limit)
    turnout.mask(run, moe, folder / "run-mask-committee-all", controls=2, limit=1)
    started = time.perf_counter()
    page = write_report(run)
    print(f"{page.stat().st_size / 1e6:.1f} MB, written in {time.perf_counter() - started:.1f} s\n")
    return page


def options(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a small run, opened twice if there is a browser")
    parser.add_argument("--times", type=int, default=9, help="openings; one more, from a cold disk, is left out")
    parser.add_argument("--page", type=Path, help="a page to open instead")
    return parser.parse_args(words)


def main() -> None:
    """Measure and print."""
    args = options()
    has_browser = chromium_path() is not None
    if not has_browser and not args.smoke:
        sys.exit("page_opening: expected chromium on PATH, got none")
    times = 1 if args.smoke else args.times
    sizes = (2, 16, 1) if args.smoke else (48, 128, None)
    with tempfile.TemporaryDirectory() as folder:
        page = args.page.resolve() if args.page else write_page(Path(folder), *sizes)
        openings = [open_once(page) for _ in range(times + 1)][1:] if has_browser else []
    print(f"{machine(threads=os.cpu_count() or 1)}; {len(openings)} openings\n")
    if not openings:
        print("not measured: no chromium on PATH")
        return
    interactive = statistics.median(one["interactive"] for one in openings)
    rows = []
    for name in ("text", "interactive", *STEPS):
        values = [one[name] for one in openings]
        middle = statistics.median(values)
        rows.append([name, f"{middle:.0f}", f"{min(values):.0f}", f"{max(values):.0f}", f"{middle / interactive:.2f}×"])
    print(table(["milliseconds", "median", "least", "most", "of interactive"], rows))


if __name__ == "__main__":
    main()
