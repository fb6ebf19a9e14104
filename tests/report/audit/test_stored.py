"""Runs that cannot be reported, each refused in one line."""

import json
from pathlib import Path

import jsonschema
import polars as pl
import pytest
from report.synthetic import write_run

from turnout.errors import RunError
from turnout.report import read_run
from turnout.report.audit.stored import StoredRun
from turnout.runs import RunFolder


def test_damaged_table_is_named(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", 1, 4)
    (path / "tables" / "ranks.parquet").write_bytes(b"PAR1")
    with pytest.raises(RunError, match=r"ranks\.parquet"):
        read_run(path)


def test_missing_table_is_named(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", 1, 4)
    (path / "tables" / "lorenz.parquet").unlink()
    with pytest.raises(RunError, match=r"lorenz\.parquet"):
        read_run(path)


def test_missing_column_is_named(tmp_path: Path) -> None:
    path = _rewritten(tmp_path, "experts", lambda table: table.drop("share"))
    with pytest.raises(RunError, match=r"experts\.parquet: expected columns share"):
        read_run(path)


def test_other_schema_is_refused(tmp_path: Path) -> None:
    path = _rewritten(tmp_path, "experts", lambda table: table, schema=2)
    with pytest.raises(RunError, match=r"audit\.json: expected an audit of schema 1, got 2"):
        read_run(path)


def test_a_domain_that_audit_json_does_not_name_is_refused(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run", 1, 4))
    ranks = run.tables["ranks"].with_columns(domain=pl.lit("elsewhere"))
    with pytest.raises(RunError, match=r"column domain: expected a value that audit\.json names, got elsewhere"):
        _ = StoredRun(run.path, run.audit, run.manifest, run.tables | {"ranks": ranks}).ranks


def test_domains_keep_the_order_of_the_map(tmp_path: Path) -> None:
    assert read_run(write_run(tmp_path / "run", 1, 4, ["b", "a", "c"])).domains == ["b", "a", "c"]


def test_a_domain_without_samples_is_left_out(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run", 1, 4, ["b", "a"]))
    run.audit["tasks"]["domains"]["empty"] = 0
    assert run.domains == ["b", "a"]


def _rewritten(tmp_path: Path, name, change, schema: int = 1) -> Path:
    """A run with one table changed before it was finished."""
    source = write_run(tmp_path / "source", 1, 4)
    with RunFolder.open(tmp_path / "run", {"verb": "audit", "model": "x"}) as run:
        for table in (source / "tables").iterdir():
            read = pl.read_parquet(table)
            run.write_table(table.stem, (change(read) if table.stem == name else read).to_arrow())
        run.write_json("audit.json", json.loads((source / "audit.json").read_text()) | {"schema": schema})
        run.finish()
    return tmp_path / "run"


def test_the_synthetic_evidence_has_the_shape_of_a_real_one(tmp_path: Path) -> None:
    """What these tests draw is what an audit writes: its layers' evidence keeps the schema."""
    schema = json.loads((Path(__file__).parents[3] / "docs/reference/audit.schema.json").read_text())
    audit = read_run(write_run(tmp_path / "run", 6, 8, evidence=True)).audit
    for part in ("claim", "budgets"):
        jsonschema.validate(audit[part], {**schema["properties"][part], "$defs": schema["$defs"]})
    for layer in audit["layers"]:
        for part in ("intervals", "nulls", "claim"):
            jsonschema.validate(layer[part], {"$ref": f"#/$defs/{part}", "$defs": schema["$defs"]})
