"""One self-contained page from a stored run: data, style and scripts inlined, nothing loaded, nothing interpreted.

What comes from the run stands in one JSON block, escaped so that it can close no tag, and reaches the page as text
only. The page's policy lets run no script but the two whose digests it names, and lets nothing connect anywhere.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnout.report import atlas, budgets, claim_words, evidence, figures, masking, words
from turnout.report.stored import StoredRun, read_run
from turnout.runs import RunFolder

SCRIPTS = ("elements.js", "charts.js", "evidence_charts.js", "page.js", "evidence.js", "start.js")
_ESCAPES = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}


def render(run_path: str | Path, masking_runs: Sequence[str | Path] | None = None) -> str:
    """The page of a finished run as HTML, with what masking runs found (None: those beside it).

    Raises:
        RunError: the run is unfinished or damaged, or a masking run is of another audit.
    """
    return render_run(read_run(run_path, masking_runs))


def write_report(run_path: str | Path, masking_runs: Sequence[str | Path] | None = None) -> Path:
    """Write a finished run's report.html, whole or not at all, and say where it is."""
    folder = RunFolder.read(run_path)
    folder.write_page(render(run_path, masking_runs))
    return folder.path / "report.html"


def render_run(run: StoredRun) -> str:
    """The page of a run that is already read."""
    return assembled("page.html", SCRIPTS, page_data(run))


def assembled(template: str, scripts: Sequence[str], data: Mapping[str, Any]) -> str:
    """A page of this package: the template between the head and scripts that all pages share."""
    script = "".join(_asset(name) for name in scripts)
    parts = {
        "policy": _policy(script, _plotly()),
        "style": _asset("page.css"),
        "data": escaped_json(data),
        "script": script,
        "plotly": _plotly(),
    }
    shared = {name: _filled(_asset(f"{name}.html"), parts) for name in ("head", "scripts")}
    return _filled(_asset(template), shared)


def _filled(template: str, parts: Mapping[str, str]) -> str:
    """`template` with each {{name}} replaced, once: a hole inside a part stays as it is."""
    return re.sub(r"\{\{(\w+)\}\}", lambda hole: parts[hole[1]], template)


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


def packed(array: NDArray[np.float64]) -> dict[str, Any]:
    """An array as its shape and base64 of its little-endian float32 bytes: small, and read at once."""
    raw = np.ascontiguousarray(array, dtype="<f4").tobytes()
    return {"shape": list(array.shape), "bytes": base64.b64encode(raw).decode("ascii")}


def escaped_json(value: object) -> str:
    """`value` as JSON that may stand inside a script element: <, >, & and line separators only as escapes."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(_ESCAPES)


def _policy(*scripts: str) -> str:
    """What the page may do: run these scripts and no other, style itself, show images that it drew; load nothing."""
    digests = " ".join(f"'sha256-{_sha256(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {digests}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


@cache
def _asset(name: str) -> str:
    return files("turnout.report").joinpath(name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    """plotly.js as the plotly package carries it, line ends as a browser reads them."""
    source = files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")
    assert "</script" not in source.lower(), "plotly.js would end its own script element"
    return source.replace("\r\n", "\n").replace("\r", "\n")
