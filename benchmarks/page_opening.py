"""How soon the page of a 48-layer × 128-expert × 9-domain run opens in Chromium: `python benchmarks/page_opening.py`.

The run is made up (`tests/report/synthetic.py`). Each opening is a browser of its own, driven over a pipe and watched
no more than that takes: a debugger that listens to the console makes every error in a script collect its source
positions. Prints a Markdown table of wall times since navigation, with the load average.
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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1] / "tests"
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--window-size=1280,900")
READ = """new Promise((done) => {
  const [page] = performance.getEntriesByType("navigation");
  new PerformanceObserver((list) => {
    const words = list.getEntries().at(-1).startTime;  // the largest text on screen is written by the page's script
    done({ words, interactive: page.domContentLoadedEventEnd });
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
    """A Chromium at the other end of two pipes, spoken to in the DevTools protocol."""

    def __init__(self, process: "subprocess.Popen[bytes]", write: int, read: int) -> None:
        self._process, self._write, self._read = process, write, read
        self._sent, self._rest = 0, b""

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """The answer to a command; what comes before it is not looked at."""
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
        """Until the browser says that `event` has happened."""
        while self._next().get("method") != event:
            pass

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = os.read(self._read, 1 << 20)
            if not more:
                raise RuntimeError(f"the browser has gone, exit status {self._process.wait()}")
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\0")
        return json.loads(line)


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser without history or cache, gone afterwards."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        sys.exit("page_opening: no chromium on PATH")
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
    """Milliseconds of one opening, and the load average before it."""
    load = os.getloadavg()[0]
    with browser() as chromium:
        targets = chromium.call("Target.getTargets")["targetInfos"]
        target = next(of["targetId"] for of in targets if of["type"] == "page")
        session = chromium.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        chromium.call("Page.enable", session)
        chromium.call("Page.navigate", session, url=page.as_uri())
        chromium.wait("Page.loadEventFired")
        found = _evaluate(chromium, session, READ)
        for name, figure in STEPS.items():
            found[name] = _evaluate(chromium, session, f"{DRAW}({json.dumps(figure)})")
    return {"load average": load, **found}


def _evaluate(chromium: Browser, session: str, script: str) -> Any:
    answer = chromium.call("Runtime.evaluate", session, expression=script, awaitPromise=True, returnByValue=True)
    return answer["result"]["value"]


def write_large(folder: Path) -> Path:
    """The page of the made-up run."""
    sys.path.insert(0, str(TESTS))
    from report.synthetic import write_run
    from report.synthetic_evidence import write_masking

    from turnout.report import write_report

    write_run(folder / "run", 48, 128, top_k=8, accuracy=True, evidence=True, tokens=[f" word{n}" for n in range(2000)])
    write_masking(folder / "run")
    started = time.perf_counter()
    page = write_report(folder / "run")
    print(f"{page.stat().st_size / 1e6:.1f} MB, drawn in {time.perf_counter() - started:.1f} s\n")
    return page


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=9, help="openings; the first one, from a cold disk, is left out")
    parser.add_argument("--page", type=Path, help="a page to open instead of the made-up run's")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        page = asked.page.resolve() if asked.page else write_large(Path(folder))
        times = [open_once(page) for _ in range(asked.times + 1)][1:]
    print("| milliseconds | median | least | most |\n|---|---|---|---|")
    for name in ("words", "interactive", *STEPS):
        values = [one[name] for one in times]
        print(f"| {name} | {statistics.median(values):.0f} | {min(values):.0f} | {max(values):.0f} |")
    loads = [one["load average"] for one in times]
    print(f"\n{len(times)} openings; load average {min(loads):.1f} to {max(loads):.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
