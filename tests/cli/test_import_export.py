"""`turnout import` and `turnout export`, end to end."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import polars as pl
import pytest

SCHEMA = Path(__file__).parents[2] / "docs" / "reference" / "audit.schema.json"
TABLES = ["contribution", "experts", "jaccard", "lorenz", "ranks", "samples", "silhouette"]


@pytest.fixture
def routed(tmp_path):
    """Ten samples as vLLM returns them, with their metadata."""
    rng = np.random.default_rng(0)
    parts = [
        np.stack([[rng.permutation(6)[:2] for _ in range(3)] for _ in range(n)]).astype(np.int16) for n in range(3, 13)
    ]
    np.savez(tmp_path / "routed.npz", **{f"q{i}": part for i, part in enumerate(parts)})
    rows = [
        {"id": f"q{i}", "subject": f"=s{i % 4}", "domain": "ab"[i % 2], "tokens": rng.integers(0, 9, len(p)).tolist()}
        for i, p in enumerate(parts)
    ]
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def taken_in(turnout, folder, *words):
    given = ["--samples", folder / "samples.jsonl", "--experts", 6, "--layers", "1-3", "--out", folder / "run"]
    return turnout("import", folder / "routed.npz", *given, *words)


def test_import_audit_report_export(turnout, routed):
    found = taken_in(turnout, routed, "--json").json()
    assert (found["samples"], found["layers"], found["token_ids"]) == (10, [1, 2, 3], True)
    assert set(found["not_computed"]) == {"gate", "weight", "released", "specificity", "rotated"}
    assert turnout("verify", routed / "run").code == 0
    audited = turnout(
        "audit", routed / "run", "--kind", "frequency", "--scope", "all", "--out", routed / "audit", "--json"
    )
    assert audited.code == 0, audited.err
    assert audited.json()["model"]["id"] == "routed"
    jsonschema.validate(audited.json(), json.loads(SCHEMA.read_text(encoding="utf-8")))
    assert (routed / "audit" / "report.html").stat().st_size > 1000
    written = turnout("export", routed / "audit", "--format", "csv", "--out", routed / "csv", "--json")
    assert written.code == 0, written.err
    names = {f.name for f in (routed / "csv").iterdir()}
    assert names == {f"{f.stem}.csv" for f in (routed / "audit/tables").iterdir()} | {"columns.json"}
    assert names >= {f"{t}.csv" for t in TABLES}
    samples = pl.read_csv(routed / "csv" / "samples.csv")
    assert samples["subject"].to_list() == [f"'=s{i % 4}" for i in range(10)]
    described = json.loads((routed / "csv" / "columns.json").read_text())
    missing = [(t, c["name"]) for t, x in described["tables"].items() for c in x["columns"] if not c["meaning"]]
    assert missing == []


def test_only_the_tables_that_are_named(turnout, routed):
    taken_in(turnout, routed)
    turnout("audit", routed / "run", "--kind", "frequency", "--out", routed / "audit")
    ran = turnout("export", routed / "audit", "ranks", "--format", "json", "--out", routed / "out")
    assert (ran.code, sorted(f.name for f in (routed / "out").iterdir())) == (0, ["columns.json", "ranks.json"])


def refused(ran, *words):
    assert (ran.code, ran.out, len(ran.err.strip().splitlines())) == (1, "", 1), ran.err
    for word in words:
        assert word in ran.err, ran.err


def test_bad_input_is_one_line(turnout, routed):
    refused(taken_in(turnout, routed, "--domains", "nowhere.json"), "nowhere.json", "domain map")
    given = ["--experts", 6, "--out", routed / "run"]
    refused(turnout("import", routed / "nothing.npz", *given), "nothing.npz", "no such file")
    refused(turnout("import", routed / "routed.npz", "--experts", 3, "--out", routed / "run"), "experts from 0 to 2")
    for option, text, expected in (("--layers", "1-x", "numbers such as 1-27"), ("--shape", "48", "LAYERSxK")):
        ran = turnout("import", routed / "routed.npz", *given, option, text)
        assert (ran.code, ran.out) == (2, "")
        assert expected in ran.err
    assert not (routed / "run").exists()
    assert turnout("import", routed / "routed.npz").code == 2  # E is never guessed


def test_an_imported_run_names_what_it_cannot_compute(turnout, routed):
    taken_in(turnout, routed)
    by_gate = turnout("audit", routed / "run", "--kind", "gate", "--out", routed / "audit")
    refused(by_gate, "chosen experts only", "--kind frequency")
    refused(turnout("export", routed / "run", "--out", routed / "out"), "a run with tables")
    refused(turnout("report", routed / "run"), "turnout import")
    assert not (routed / "audit").exists()


def test_export_refuses_existing_files_and_unknown_tables(turnout, routed):
    taken_in(turnout, routed)
    turnout("audit", routed / "run", "--kind", "frequency", "--out", routed / "audit")
    assert turnout("export", routed / "audit", "--out", routed / "out").code == 0
    refused(turnout("export", routed / "audit", "--out", routed / "out"), "one that is there")
    refused(turnout("export", routed / "audit", "gates", "--out", routed / "new"), "expected a table of", "gates")
    assert turnout("export", routed / "audit", "--format", "xlsx").code == 2
