"""Run every benchmark beside this file, one after another: `python benchmarks [--smoke]`.

Exit status 1 if one failed. `--smoke`: tiny sizes, one thread, seconds each, to see that all of them run.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent


def scripts() -> list[Path]:
    """The files that are benchmarks: those that can be run."""
    return [path for path in sorted(HERE.glob("[a-z]*.py")) if "__main__" in path.read_text(encoding="utf-8")]


def main() -> None:
    """Run them, each in a process of its own."""
    parser = argparse.ArgumentParser(prog="python benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, seconds each")
    smoke = parser.parse_args().smoke
    words = ["--smoke"] if smoke else []
    environment = os.environ | ({"OMP_NUM_THREADS": "1"} if smoke else {})
    failed = []
    for path in scripts():
        print(f"\n## {path.stem}\n", flush=True)
        started = time.monotonic()
        if subprocess.run([sys.executable, str(path), *words], env=environment, check=False).returncode:
            failed.append(path.stem)
        print(f"\n{time.monotonic() - started:.1f} s", flush=True)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
