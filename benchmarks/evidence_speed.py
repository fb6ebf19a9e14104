"""Time and memory of the evidence of a full MMLU audit: intervals, nulls and claims.

    python benchmarks/evidence_speed.py [--smoke]

14,042 samples of 57 subjects in nine domains, 16 layers of 64 experts, 1,000 resamples; random scores.
"""

import argparse
import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from machine import machine, table
from torch import Tensor

from turnout import ops
from turnout.auditing.evidence.bootstrap import Clusters, Resamples, intervals, specificity_intervals, stability
from turnout.auditing.evidence.claim import claim
from turnout.auditing.evidence.domain_signal import domain_signal
from turnout.auditing.evidence.rotated import rotated_contributions

TOP_K, DOMAINS, SUBJECTS, HIDDEN = 8, 9, 57, 2048
BOOTSTRAP = ("draw resamples", "resampled contributions", "intervals and stability", "silhouette intervals")


def clusters(n_samples: int) -> Clusters:
    """Samples spread evenly over 57 subjects, and subjects over nine domains."""
    subject_S = np.sort(np.arange(n_samples) % SUBJECTS)
    return Clusters(subject_S % DOMAINS, subject_S, DOMAINS)


class Clock:
    """Seconds of each step, added up."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the time of the block to `name`."""
        started = time.perf_counter()
        yield
        self.spent[name] = self.spent.get(name, 0.0) + time.perf_counter() - started


def measure(n_samples: int, n_layers: int, n_experts: int, n_resamples: int) -> dict[str, float]:
    """Seconds of each step over all layers."""
    clock, samples = Clock(), clusters(n_samples)
    with clock.step("draw resamples"):
        resamples = Resamples.draw(samples, 0, n_resamples)
    for layer in range(n_layers):
        torch.manual_seed(layer)
        measure_layer(torch.randn(n_samples, n_experts).softmax(-1).double(), resamples, clock)
    return clock.spent


def measure_layer(scores: Tensor, resamples: Resamples, clock: Clock) -> None:
    """Evidence of one layer, in the steps of an audit."""
    samples, names = resamples.clusters, [str(d) for d in range(DOMAINS)]
    chosen = torch.zeros_like(scores).scatter(1, scores.topk(TOP_K).indices, 1.0)
    own = ops.contribution(scores, torch.from_numpy(samples.domain_S), DOMAINS)
    members = ops.committee(own, TOP_K).members
    inputs, router = torch.randn(len(scores), HIDDEN), torch.randn(scores.shape[1], HIDDEN) / HIDDEN**0.5
    with clock.step("resampled contributions"):
        drawn = resamples.means(scores)
    with clock.step("intervals and stability"):
        intervals(own, drawn, TOP_K, members, "samples")
        stability(drawn, TOP_K, 0.8)
    with clock.step("silhouette intervals"):
        specificity_intervals(scores, dict.fromkeys(names, 0.0), resamples, names)
    with clock.step("claim"):
        claim(scores, samples, TOP_K, presence=0.8, rotated=None, seed=0)
    with clock.step("permutations (199)"):
        domain_signal(scores, scores, chosen, samples, TOP_K, seed=0)
    with clock.step("rotated router (199)"):
        rotated_contributions(inputs, router, None, torch.nn.Softmax(-1), samples, seed=0)


def options(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="200 samples and one layer, to see that it runs")
    return parser.parse_args(words)


def main() -> None:
    """Measure and print."""
    sizes = (200, 1, 8, 20) if options().smoke else (14_042, 16, 64, 1000)
    spent = measure(*sizes)
    total, bootstrap = sum(spent.values()), sum(spent[name] for name in BOOTSTRAP)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{machine(torch.get_num_threads())}; "
        f"{sizes[0]} samples, {sizes[1]} layers, {sizes[2]} experts, {sizes[3]} resamples\n"
    )
    rows = [[name, f"{seconds:.1f}", f"{seconds / total:.0%}"] for name, seconds in spent.items()]
    rows.append(["**bootstrap, all figures**", f"**{bootstrap:.1f}**", f"**{bootstrap / total:.0%}**"])
    print(table(["step", "seconds", "of all"], rows) + f"\n\npeak memory {peak:.2f} GiB")


if __name__ == "__main__":
    main()
