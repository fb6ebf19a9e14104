"""The page of an audit, an imported trace or an evaluation, with the masking runs of the audit."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from turnout.report.audit import atlas, claim, evidence, figures, masking, words
from turnout.report.audit.stored import StoredRun, read_run
from turnout.report.kit.page import assemble_page, packed
from turnout.runs import RunFolder

SCRIPTS = tuple(
    f"audit/{name}.js"
    for name in (
        "state",
        "drawing",
        "overview",
        "layers",
        "layer",
        "expert",
        "sections",
        "map_charts",
        "layer_charts",
        "evidence_charts",
        "start",
    )
)


def render_audit(folder: RunFolder, masking_runs: Sequence[str | Path] | None = None) -> str:
    """The page of a finished audit as HTML.

    Args:
        folder: the run.
        masking_runs: masking runs of this audit to show; None: those beside it.

    Raises:
        RunError: the run is damaged or not an audit, or a masking run is of another audit.
    """
    run = read_run(folder.path, masking_runs)
    return assemble_page("audit/page.html", SCRIPTS, page_data(run), ["audit/page.css"])


def page_data(run: StoredRun) -> dict[str, Any]:
    """Everything that the page's scripts write and draw, ready for JSON."""
    return {
        **_words(run),
        **_claim(run),
        "domains": run.domains,
        "kind": run.audit["kind"],
        "kinds": run.kinds,
        "kind_names": words.KIND_NAMES,
        "measures": [measure.describe() for measure in run.measures],
        "overall": figures.overview(run.audit),
        "layers": figures.layer_table(run),
        "profiles": {measure.name: figures.depth_profile(run, measure.name) for measure in run.measures},
        "marks": figures.marks(run.layers),
        "start": figures.start(run.layers),
        "specificity": figures.specificity(run),
        "signal": {test: evidence.domain_signal(run.layers, test) for test in ("mutual_information", "silhouette")},
        "masking": [entry | {"sentence": masking.sentence(entry)} for entry in masking.bars(run)],
        "budgets": figures.budgets(run),
        "bound": [atlas.bound_tokens(run, layer) for layer in run.layer_numbers],
        "classes": [atlas.token_classes(run, layer) for layer in run.layer_numbers],
        **_packed_figures(run),
        **_packed_atlas(run),
    }


def _words(run: StoredRun) -> dict[str, Any]:
    return {
        "title": words.title(run),
        "words": words.sentences(run),
        "notes": words.notes(run),
        "lead": words.lead(run),
        "marks_note": words.marks_note(run),
        "facts": words.facts(run),
        "terms": words.terms(run),
        "questions": words.questions(run),
    }


def _claim(run: StoredRun) -> dict[str, Any]:
    return {
        "headline": claim.headline(run.audit),
        "findings": claim.details(run.audit),
        "claims": [{"parts": claim.parts(layer), "nulls": claim.nulls(layer)} for layer in run.layers],
        "verdict": claim.verdict(run.audit),
        "symbols": claim.SYMBOLS,
        "core_sets": [(layer["claim"] or {}).get("core_set") for layer in run.layers],
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
    """One kind of contribution: the mean over domains, then each domain, packed; and the greatest value of a domain."""
    cube_DLE = run.contribution(kind)
    drawn = np.concatenate([run.mean_contribution(kind)[None], cube_DLE])
    return packed(drawn) | {"most": float(np.nanmax(cube_DLE))}
