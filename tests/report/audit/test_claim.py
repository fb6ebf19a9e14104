"""The claim in sentences, for each verdict that a layer can have."""

import pytest

from turnout.report.audit.claim import PARTS, details, headline, nulls, parts


def layer(verdict, failed=(), reason=None, level="subjects"):
    part = {"value": 0.6, "lower": 0.5, "threshold": 0.4, "p": 0.01, "passed": True}
    claim = {"verdict": verdict, "failed": list(failed), "reason": reason, "level": level, "core_set": [1]}
    return {"claim": claim | {"parts": dict.fromkeys(PARTS, part) | {"above_rotated": None}}, "nulls": {}}


def audit(layers, core=0, dominant=0):
    counts = {"core": core, "dominant committee": dominant}
    return {"claim": {name: {"layers": n, "of": len(layers)} for name, n in counts.items()}, "layers": layers}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (audit([layer("none", ["invariant"])] * 2), "No standing committee in any of 2 layers."),
        (audit([layer("core", ["majority"])], core=1), "in 1 of 1 layers; in none of them it receives most"),
        (
            audit([layer("dominant committee")] * 3, core=3, dominant=2),
            "in 3 of 3 layers; in 2 of them it receives most",
        ),
        (
            audit([layer("cannot tell", reason="no inputs")]),
            "A core committee in 0 of 1 layers; in some layers the tests cannot tell.",
        ),
        ({"claim": None, "layers": [{"claim": None}]}, "No claim"),
        ({"layers": [{"claim": None}]}, "No claim"),
    ],
)
def test_headline(content, expected):
    assert expected in headline(content)


def test_details_name_failed_parts_and_what_is_resampled():
    lines = details(
        audit([layer("none", ["invariant", "above_rotated"]), layer("none", ["above_rotated"], level="samples")])
    )
    assert lines[0] == "In 2 layers a rotated, untrained router covers as much on the same inputs."
    assert lines[1] == "In 1 layer the core set covers too little in some domain."
    assert lines[-1].startswith("Tests and intervals resample single samples, since some domain has fewer than ten")


def test_parts_of_a_layer_are_rows_with_an_outcome():
    rows = parts(layer("cannot tell"))
    assert [row["name"] for row in rows] == list(PARTS.values())
    assert [row["passed"] for row in rows] == [True, True, True, None, True]
    assert parts({"claim": None}) == []


def test_a_null_that_was_not_computed_has_its_reason():
    assert nulls({"nulls": {"rotated": {"reason": "no inputs"}}}) == ["Rotated router: no inputs."]
    assert nulls({"nulls": {}}) == []
