"""Peak memory and time of `turnout coupling` on a checkpoint of DeepSeek-V2-Lite's exact shapes, 31 GB in bfloat16.

The claim: below 2 GB resident, all 26 MoE layers, fused and per-expert files. The files are sparse: routers and one
layer's gates hold numbers, the rest reads as zeros through the same calls. Each measurement is a process of its own;
its peak is what the kernel reports (VmHWM), which counts mapped pages of files too.

    python benchmarks/coupling_memory.py [--folder /tmp/…] [--layers 27]
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests"
LIMIT = 2 * 10**9


def main() -> None:
    """Build, measure, print a table; exit status 1 if a peak is over the limit."""
    sys.path.insert(0, str(TESTS))
    from sparse import Shapes, sparse_checkpoint

    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--folder", type=Path, help="Where to build; 0.4 GB of real disk for each layout.")
    arguments.add_argument("--layers", type=int, default=Shapes.layers)
    arguments.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.measure is not None:
        measure(given.measure)
        return
    peaks = []
    print(f"{'files':<12}{'on disk':>10}{'peak RSS':>12}{'after imports':>15}{'seconds':>10}{'experts/s':>11}")
    for fused in (False, True):
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            shapes = Shapes(layers=given.layers)
            size = sparse_checkpoint(Path(folder) / "model", shapes, fused=fused)
            found = in_process(Path(folder) / "model")
        peaks.append(found["peak"])
        experts = (shapes.layers - 1) * shapes.experts
        files = "fused" if fused else "per expert"
        print(
            f"{files:<12}{size / 1e9:>8.1f}GB{found['peak'] / 1e9:>10.2f}GB{found['before'] / 1e9:>13.2f}GB"
            f"{found['seconds']:>10.1f}{experts / found['seconds']:>11.1f}"
        )
    sys.exit(int(max(peaks) > LIMIT))


def in_process(checkpoint: Path) -> dict[str, float]:
    """What a process of its own measured."""
    command = [sys.executable, __file__, "--measure", str(checkpoint)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def measure(checkpoint: Path) -> None:
    """Measure this checkpoint's coupling here, and print peak memory (bytes) and seconds as JSON."""
    from turnout.coupling import measure_coupling

    before, started = peak(), time.perf_counter()
    result = measure_coupling(checkpoint)
    seconds = time.perf_counter() - started
    assert result.layers[0]["raw"]["loss"][0]["value"] > 0, "the filled layer says nothing"
    print(json.dumps({"peak": peak(), "before": before, "seconds": seconds}))


def peak() -> int:
    """The most resident memory that this process has had, in bytes; ru_maxrss would count the parent's at the start."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


if __name__ == "__main__":
    main()
