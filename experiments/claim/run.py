"""Power and false positives of the claim on traces with planted truth, as PLAN.md says.

python -m experiments.claim.run
"""

import csv
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch

from experiments.shared import planted
from experiments.shared.planted import Design, Planted
from turnout import ops
from turnout.auditing.evidence.claim import claim
from turnout.ops import wilson

HERE = Path(__file__).parent
FIGURE = HERE.parents[1] / "docs/images/claim-power.svg"
DESIGN = Design(experts=24)
ROTATED = np.minimum(1, np.arange(1, DESIGN.experts + 1) / DESIGN.experts * 1.8)
DRAWS = 200
COVERAGES = (0.40, 0.44, 0.46, 0.48, 0.50, 0.52, 0.54, 0.56, 0.57, 0.58, 0.60, 0.62)
LEAST = (0.70, 0.75, 0.80, 0.84, 0.88, 0.90, 0.92, 0.95)


def claimed(structure: Planted, verdicts: tuple[str, ...]) -> int:
    """Number of draws whose verdict is one of `verdicts`."""
    rng, times = np.random.default_rng(1), 0
    for seed in range(DRAWS):
        scores = planted.draw(structure, DESIGN, rng)
        options = {"presence": 0.8, "rotated": ROTATED, "seed": seed, "n": 200}
        times += claim(scores, DESIGN.clusters(), DESIGN.top_k, **options)["verdict"] in verdicts
    return times


def claims() -> Iterable[dict[str, object]]:
    """One row a structure."""
    any_core = ("core", "dominant committee")
    for coverage in COVERAGES:
        yield _row("coverage", coverage, coverage > 0.5, claimed(planted.core_covering(coverage, DESIGN), any_core[1:]))
    for least in LEAST:
        yield _row("least domain", least, least > 0.8, claimed(planted.invariance_at(least, DESIGN), any_core))
    makers: tuple[Callable[[Design], Planted], ...] = (
        planted.uniform,
        planted.domain_routing,
        planted.concentrated_but_specific,
        planted.invariant_but_diffuse,
    )
    for make in makers:
        yield _row(make(DESIGN).name, None, False, claimed(make(DESIGN), any_core))


def recovery() -> Iterable[dict[str, object]]:
    """Number of draws in which all three planted members are found."""
    design = Design(subjects=10, samples=10, subject_noise=0.0, sample_noise=0.2)
    labels = torch.from_numpy(design.clusters().domain_S)
    for noise in (0.0, 0.1, 0.3):
        rng = np.random.default_rng(0)
        hits = {"candidates": 0, "members": 0}
        for _ in range(DRAWS):
            scores = planted.draw(planted.noisy_members(noise, design, rng), design, rng)
            committee = ops.committee(ops.contribution(scores, labels, design.domains), design.top_k)
            for name in hits:
                hits[name] += {0, 1, 2} <= set(getattr(committee, name).tolist())
        yield {
            "domain_noise": noise,
            "draws": DRAWS,
            "candidate_set": hits["candidates"],
            "pareto_set": hits["members"],
        }


def _row(what: str, at: float | None, true: bool, times: int) -> dict[str, object]:
    low, high = wilson(times, DRAWS)
    return {"what": what, "at": at, "true": true, "claimed": times, "draws": DRAWS, "low": low, "high": high}


def _write(path: Path, rows: list[dict[str, object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def figure(rows: list[dict[str, object]]) -> str:
    """Two panels of shares by true value, with Wilson intervals, as SVG."""
    return "\n".join(
        [
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 300" font-family="sans-serif" font-size="12">',
            '<rect width="760" height="300" fill="#fff"/>',
            *panel(rows, "coverage", "coverage of the core", 0.5, "dominant committee", left=60),
            *panel(rows, "least domain", "least domain / mean", 0.8, "core", left=440),
            "</svg>\n",
        ]
    )


def panel(
    rows: list[dict[str, object]], what: str, axis: str, threshold: float, verdict: str, left: int, width: int = 300
) -> Iterable[str]:
    """One panel: the share of each true value."""
    points = [row for row in rows if row["what"] == what]
    values = [float(str(row["at"])) for row in points]

    def x(value: float) -> float:
        return left + width * (value - min(values)) / (max(values) - min(values))

    def y(share: object) -> float:
        return 240 - 200 * float(str(share))

    def text(at: float, height: float, words: object, anchor: str = "middle") -> str:
        return f'<text x="{at}" y="{height}" text-anchor="{anchor}">{words}</text>'

    yield text(left, 24, f"share of traces called “{verdict}”", "start")
    for share in (0, 0.05, 0.5, 0.95, 1):
        yield f'<line x1="{left}" x2="{left + width}" y1="{y(share)}" y2="{y(share)}" stroke="#ddd"/>'
        yield text(left - 8, y(share) + 4, share, "end")
    yield f'<line x1="{x(threshold)}" x2="{x(threshold)}" y1="40" y2="240" stroke="#888" stroke-dasharray="4 3"/>'
    yield text(x(threshold), 256, threshold)
    yield text(left + width / 2, 282, f"{axis} (true value); false up to the dashed line")
    for row, value in zip(points, values, strict=True):
        bar = f'y1="{y(row["low"])}" y2="{y(row["high"])}" stroke="#0072b2"'
        yield f'<line x1="{x(value)}" x2="{x(value)}" {bar}/>'
        yield f'<circle cx="{x(value)}" cy="{y(int(str(row["claimed"])) / DRAWS)}" r="4" fill="#0072b2"/>'


if __name__ == "__main__":
    results = list(claims())
    _write(HERE / "claims.csv", results)
    _write(HERE / "recovery.csv", list(recovery()))
    FIGURE.write_text(figure(results), encoding="utf-8")
