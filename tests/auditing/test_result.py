"""Result of an audit: audit.json as an object, and its schema."""

import json
from pathlib import Path

import jsonschema
import pytest
from auditing.planted import describe, domains_of, samples, write_trace

from turnout.auditing.config import KINDS, AuditConfig
from turnout.auditing.figures import content, measure
from turnout.auditing.measures import MEASURES
from turnout.auditing.result import Audit
from turnout.errors import RunError

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/reference/audit.schema.json").read_text())
pytestmark = pytest.mark.usefixtures("few_draws")
MODEL = {
    "id": "planted",
    "revision": None,
    "architecture": "None",
    "dtype": "float32",
    "parameters": 0,
    "layers": [1, 4],
    "experts": [8, 12],
    "top_k": [2, 3],
    "shared": [1, 0],
    "max_length": None,
    "digest": "0" * 64,
}


def result(path, dataset, answers=None, **options):
    trace = write_trace(path, dataset, answers=answers)
    result_json = content(measure(trace, domains_of(dataset), AuditConfig.of(**options)), MODEL, describe(dataset))
    return Audit(json.loads(json.dumps(result_json, allow_nan=False)))


@pytest.fixture
def audit(tmp_path):
    return result(tmp_path / "run", samples())


def test_the_schema_is_valid():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("counts", [{"a": 5, "b": 4}, {"only": 3}, {"a": 1, "b": 1}], ids=str)
def test_every_audit_conforms_to_the_schema(tmp_path, kind, counts):
    dataset = samples(counts)
    answers = [(0, [-0.1, -3.0]) for _ in dataset]
    audit = result(tmp_path / "run", dataset, answers, kind=kind)
    jsonschema.validate(json.loads(json.dumps(audit.to_dict(), allow_nan=False)), SCHEMA)


def test_saved_and_loaded(audit, tmp_path):
    audit.save(tmp_path / "audit.json")
    assert Audit.load(tmp_path / "audit.json").to_dict() == audit.to_dict()
    again = tmp_path / "again.json"
    Audit.load(tmp_path / "audit.json").save(again)
    assert again.read_bytes() == (tmp_path / "audit.json").read_bytes()


def test_changes_to_a_copy_do_not_change_the_result(audit):
    audit.to_dict()["layers"].clear()
    assert len(audit.layers) == 2
    with pytest.raises(AttributeError):
        audit.path = "elsewhere"


def test_frame_has_one_row_per_layer(audit):
    frame = audit.frame()
    assert frame["layer"].to_list() == [1, 4]
    for name in ("committee", "candidates", "fallback", *MEASURES):
        assert frame[name].to_list() == [layer[name] for layer in audit.layers]
    means = [sum(layer["specificity"].values()) / 4 for layer in audit.layers]
    assert frame["specificity"].to_list() == pytest.approx(means)


def test_frame_of_undefined_figures(tmp_path):
    frame = result(tmp_path / "run", samples({"only": 1}), kind="released").frame()
    assert frame["gini"].to_list() == [None, None]
    assert frame["specificity"].to_list() == [None, None]
    assert frame.schema["gini"] == frame.schema["coverage"]


def test_repr_names_the_run_and_its_committees(audit):
    lines = repr(audit).splitlines()
    assert lines[0] == "Audit of planted on 27 questions of planted in 4 domains (kind gate, scope last)"
    assert any("[5]" in line for line in lines)


def test_html_for_notebooks_has_a_row_per_layer_and_escapes_names(tmp_path):
    content = result(tmp_path / "run", samples()).to_dict()
    content["model"]["id"] = "<script>alert(1)</script>"
    shown = Audit(content)._repr_html_()
    assert "<script" not in shown
    assert shown.count("<tr>") == 3
    low, high = content["layers"][0]["intervals"]["coverage"]
    assert f"{content['layers'][0]['coverage']:.3f} [{low:.3f}, {high:.3f}]" in shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no JSON"),
        ("[]", "expected audit.json of schema 1, got list"),
        ('{"schema": 2}', "got 2"),
        (None, "No such"),
    ],
    ids=["broken", "list", "schema", "missing"],
)
def test_a_file_that_is_no_audit(tmp_path, text, message):
    path = tmp_path / "audit.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RunError, match=message):
        Audit.load(path)


def test_a_bare_file_has_no_tables(audit, tmp_path):
    audit.save(tmp_path / "audit.json")
    with pytest.raises(RunError, match=r"bare audit\.json"):
        Audit.load(tmp_path / "audit.json").table("experts")
