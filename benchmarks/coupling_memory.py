"""Peak memory and time of `turnout coupling` on a checkpoint of DeepSeek-V2-Lite's exact shapes, 31 GB in bfloat16.

    python benchmarks/coupling_memory.py [--smoke] [--folder /tmp/…] [--layers 27]

The claim: below 2 GB resident for all 26 MoE layers, with fused and with per-expert files. The files are sparse: only
the routers and one layer's gates contain numbers, the rest reads as zeros through the same calls. Each measurement is a
process of its own; its peak is the kernel's figure (VmHWM), which counts mapped pages of files too. Exit status 1 above
the limit.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from machine import machine, table
from sparse_checkpoint import Shapes, sparse_checkpoint

LIMIT = 2 * 10**9
SMOKE = Shapes(
    layers=3, experts=4, width=64, expert_width=32, vocabulary=128, shared=1, dense_width=64, heads=2
)  # fmt: skip


def options(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a tiny checkpoint, to see that it runs")
    parser.add_argument("--folder", type=Path, help="where to build; 0.4 GB of real disk for each layout")
    parser.add_argument("--layers", type=int, default=Shapes.layers)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(words)


def main() -> None:
    """Build, measure, print a table."""
    args = options()
    if args.measure is not None:
        measure(args.measure)
        return
    shapes = SMOKE if args.smoke else Shapes(layers=args.layers)
    rows, peaks, threads = [], [], 0
    for fused in (False, True):
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            size = sparse_checkpoint(Path(folder) / "model", shapes, fused=fused)
            figures = in_process(Path(folder) / "model")
        peaks.append(figures["peak"])
        threads = int(figures["threads"])
        experts = (shapes.layers - 1) * shapes.experts
        rows.append(
            [
                "fused" if fused else "per expert",
                f"{size / 1e9:.2f} GB",
                f"{figures['peak'] / 1e9:.2f} GB",
                f"{figures['peak'] / size:.2f}×",
                f"{figures['before'] / 1e9:.2f} GB",
                f"{figures['seconds']:.1f}",
                f"{experts / figures['seconds']:.1f}",
            ]
        )
    print(
        f"{machine(threads)}; {shapes.layers - 1} MoE layers of {shapes.experts} experts; limit {LIMIT / 1e9:.0f} GB\n"
    )
    head = ["files", "on disk", "peak RSS", "peak over disk", "after imports", "seconds", "experts/s"]
    print(table(head, rows))
    sys.exit(int(max(peaks) > LIMIT))


def in_process(checkpoint: Path) -> dict[str, float]:
    """Figures that a process of its own measured."""
    command = [sys.executable, __file__, "--measure", str(checkpoint)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def measure(checkpoint: Path) -> None:
    """Measure this checkpoint's coupling here, and print peak memory (bytes), seconds and threads as JSON."""
    import torch

    from turnout import measure_coupling

    before, started = peak(), time.perf_counter()
    result = measure_coupling(checkpoint)
    seconds = time.perf_counter() - started
    assert result.layers[0]["raw"]["loss"][0]["value"] > 0, "the layer with numbers has a loss of 0"
    print(json.dumps({"peak": peak(), "before": before, "seconds": seconds, "threads": torch.get_num_threads()}))


def peak() -> int:
    """Largest resident size of this process so far, in bytes; ru_maxrss would count the parent's at the start."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


if __name__ == "__main__":
    main()
