"""The machine line above a benchmark's table, and ratios over rounds."""

import os
import platform
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path


def machine(threads: int) -> str:
    """Processor, cores, threads that were used, load average, torch version and date."""
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return (
        f"{processor()}, {os.cpu_count()} cores, {threads} {'thread' if threads == 1 else 'threads'}, load {load}, "
        f"torch {version('torch')}, {datetime.now(UTC):%Y-%m-%d}"
    )


def processor() -> str:
    """Name of the processor as Linux gives it; elsewhere the architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def spread(ratios: Sequence[float]) -> str:
    """Median of the ratios, with the smallest and the largest."""
    return f"{statistics.median(ratios):.2f}× ({min(ratios):.2f}–{max(ratios):.2f})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown table."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows))
