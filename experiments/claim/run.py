"""Power and false claims of the claim on planted truth; PLAN.md says what and why."""

import csv
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch

from turnout import ops
from turnout.auditing import planted
from turnout.auditing.accuracy import wilson
from turnout.auditing.claim import claim
from turnout.auditing.planted import Design, Planted

HERE = Path(__file__).parent
FIGURE = HERE.parents[1] / "docs/images/claim-power.svg"
DESIGN = Design(experts=24)
ROTATED = np.minimum(1, np.arange(1, DESIGN.experts + 1) / DESIGN.experts * 1.8)
DRAWS = 200
COVERAGES = (0.40, 0.44, 0.46, 0.48, 0.50, 0.52, 0.54, 0.56, 0.57, 0.58, 0.60, 0.62)
LEAST = (0.70, 0.75, 0.80, 0.84, 0.88, 0.90, 0.92, 0.95)


def claimed(structure: Planted, verdicts: tuple[str, ...]) -> int:
    """In how many of the draws the claim was one of `verdicts`."""
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
    """How often all three planted members are found."""
    design = Design(subjects=10, samples=10, subject_noise=0.0, sample_noise=0.2)
    labels = torch.from_numpy(design.clusters().domain_S)
    for noise in (0.0, 0.1, 0.3):
        rng = np.random.default_rng(0)
        hits = {"candidates": 0, "members": 0}
        for _ in range(DRAWS):
            scores = planted.draw(planted.noisy_members(noise, design, rng), design, rng)
            found = ops.committee(ops.contribution(scores, labels, design.domains), design.top_k)
            for name in hits:
                hits[name] += {0, 1, 2} <= set(getattr(found, name).tolist())
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
    """Two panels of shares against truth, with Wilson intervals, as SVG."""
    panels = [
        ("coverage", "coverage of the core", 0.5, "dominant committee"),
        ("least domain", "least domain / mean", 0.8, "core"),
    ]
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 300" font-family="sans-serif" font-size="12">',
        '<rect width="760" height="300" fill="#fff"/>',
    ]
    for i, (what, axis, threshold, verdict) in enumerate(panels):
        points = [row for row in rows if row["what"] == what]
        at = [float(str(row["at"])) for row in points]
        left, width, low, high = 60 + 380 * i, 300, min(at), max(at)

        def x(value: float, left: int = left, width: int = width, low: float = low, high: float = high) -> float:
            return left + width * (value - low) / (high - low)

        def y(share: float) -> float:
            return 240 - 200 * share

        parts.append(f'<text x="{left}" y="24" font-weight="bold">share of traces called “{verdict}”</text>')
        parts += [
            f'<line x1="{left}" x2="{left + width}" y1="{y(s)}" y2="{y(s)}" stroke="#ddd"/>'
            f'<text x="{left - 8}" y="{y(s) + 4}" text-anchor="end">{s}</text>'
            for s in (0, 0.05, 0.5, 0.95, 1)
        ]
        parts.append(
            f'<line x1="{x(threshold)}" x2="{x(threshold)}" y1="40" y2="240" stroke="#888" stroke-dasharray="4 3"/>'
        )
        parts.append(f'<text x="{x(threshold)}" y="256" text-anchor="middle">{threshold}</text>')
        parts.append(
            f'<text x="{left + width / 2}" y="282" text-anchor="middle">{axis} (true value); false up to the dashed line</text>'
        )
        for row, value in zip(points, at, strict=True):
            share = int(str(row["claimed"])) / DRAWS
            parts.append(
                f'<line x1="{x(value)}" x2="{x(value)}" y1="{y(float(str(row["low"])))}" y2="{y(float(str(row["high"])))}" stroke="#0072b2"/>'
            )
            parts.append(
                f'<circle cx="{x(value)}" cy="{y(share)}" r="4" fill="#0072b2"><title>{value}: {share:.3f}</title></circle>'
            )
    return "\n".join([*parts, "</svg>\n"])


if __name__ == "__main__":
    found = list(claims())
    _write(HERE / "claims.csv", found)
    _write(HERE / "recovery.csv", list(recovery()))
    FIGURE.write_text(figure(found), encoding="utf-8")
