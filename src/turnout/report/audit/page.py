"""A stored run's page: the audit's, or what its kind of run has instead."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from turnout.report.align.page import is_alignment, render_alignment
from turnout.report.audit import atlas, budgets, evidence, figures, masking, words
from turnout.report.audit import claim as claim_words
from turnout.report.audit.stored import StoredRun, read_run
from turnout.report.coupling.page import is_coupling, render_coupling
from turnout.report.kit.page import assembled, packed
from turnout.report.plan.page import is_plan, render_plan
from turnout.report.sweep.page import is_sweep, render_frontier
from turnout.runs import RunFolder

SCRIPTS = (
    "kit/elements.js",
    "kit/charts.js",
    "audit/evidence_charts.js",
    "audit/page.js",
    "audit/evidence.js",
    "audit/start.js",
)


def render(run_path: str | Path, masking_runs: Sequence[str | Path] | None = None) -> str:
    """The page of a finished run as HTML: an audit's with what masking runs found (None: those beside it).

    Raises:
        RunError: the run is unfinished or damaged, or a masking run is of another audit.
    """
    if is_alignment(run_path):
        return render_alignment(run_path)
    if is_coupling(run_path):
        return render_coupling(run_path)
    if is_plan(run_path):
        return render_plan(run_path)
    if is_sweep(run_path):
        return render_frontier(run_path)
    return render_run(read_run(run_path, masking_runs))


def write_report(run_path: str | Path, masking_runs: Sequence[str | Path] | None = None) -> Path:
    """Write a finished run's report.html, whole or not at all, and say where it is."""
    folder = RunFolder.read(run_path)
    folder.write_page(render(run_path, masking_runs))
    return folder.path / "report.html"


def render_run(run: StoredRun) -> str:
    """The page of a run that is already read."""
    return assembled("audit/page.html", SCRIPTS, page_data(run))


def page_data(run: StoredRun) -> dict[str, Any]:
    """All that the page's script draws and says, ready for JSON."""
    layers = run.layers
    return {
        "title": words.title(run),
        "words": words.sentences(run),
        "headline": claim_words.headline(run.audit),
        "findings": claim_words.details(run.audit),
        "claims": [{"parts": claim_words.parts(layer), "nulls": claim_words.nulls(layer)} for layer in layers],
        "verdict": claim_words.verdict(run.audit),
        "symbols": claim_words.SYMBOLS,
        "core_sets": [(layer["claim"] or {}).get("core_set") for layer in layers],
        "notes": words.notes(run),
        "lead": words.lead(run),
        "marks_note": words.marks_note(run),
        "facts": words.facts(run),
        "terms": words.terms(run),
        "names": words.NAMES,
        "questions": words.questions(run),
        "domains": run.domains,
        "kind": run.audit["kind"],
        "kinds": run.kinds,
        "kind_names": words.KIND_NAMES,
        "overall": figures.overview(run.audit),
        "layers": figures.layer_table(layers),
        "profiles": {measure: figures.depth_profile(layers, measure) for measure in evidence.MEASURES},
        "marks": figures.marks(layers),
        "start": figures.start(layers),
        "specificity": figures.specificity(run),
        "signal": {test: evidence.domain_signal(layers, test) for test in ("mutual_information", "silhouette")},
        "masking": [entry | {"sentence": masking.sentence(entry)} for entry in masking.bars(run)],
        "budgets": budgets.curves(run),
        "bound": [atlas.bound_tokens(run, layer) for layer in run.layer_numbers],
        "classes": [atlas.token_classes(run, layer) for layer in run.layer_numbers],
        **_packed_figures(run),
        **_packed_atlas(run),
    }


def _packed_figures(run: StoredRun) -> dict[str, Any]:
    """The large figures, packed: contribution, ranks, columns of the experts, Lorenz curves, Jaccard matrices."""
    columns = ("mean_rank", "rank_variance", "presence", "share", "candidate_stability", "member_stability")
    bounds = [run.contribution_bound(end, run.audit["kind"]) for end in ("low", "high")]
    lorenz = [figures.lorenz_curve(run, layer)["share"] for layer in run.layer_numbers]
    return {
        "contribution": [_contribution(run, kind) for kind in run.kinds],
        "bounds": None if np.isnan(bounds[0]).all() else [packed(bound) for bound in bounds],
        "ranks": packed(run.ranks),
        "experts": {column: packed(run.expert_column(column)) for column in columns},
        "jaccard": packed(run.jaccard),
        "lorenz": [packed(np.array([share], dtype=np.float64).reshape(1, -1)) for share in lorenz],
    }


def _packed_atlas(run: StoredRun) -> dict[str, Any]:
    """Each expert's tokens and partners; None where the run has none."""
    places, texts = atlas.expert_tokens(run)
    partners = atlas.expert_partners(run)
    return {
        "token_texts": texts,
        "expert_tokens": packed(places) if texts else None,
        "expert_partners": None if partners is None else packed(partners),
    }


def _contribution(run: StoredRun, kind: str) -> dict[str, Any]:
    """One kind's map of every domain, the mean over domains first, and the largest value of them all."""
    cube_DLE = run.contribution(kind)
    drawn = np.concatenate([run.mean_contribution(kind)[None], cube_DLE])
    return packed(drawn) | {"most": float(np.nanmax(cube_DLE))}
