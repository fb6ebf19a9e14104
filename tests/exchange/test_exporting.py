"""Export: the same cells in every format, a dictionary of columns, no formulas for spreadsheets."""

import csv
import io
import json

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.errors import RunError
from turnout.exchange import export
from turnout.exchange.exporting import FORMATS, encode
from turnout.runs import RunFolder

HOSTILE = [
    "=1+1",
    "+x",
    "-2",
    "@sum",
    "\ttab",
    "'q",
    'say "hi", you\nthere',
    "<script>",
    "é",
    "",
    None,
    "＝1",
    " a",
    "\r=",
]
TABLES = {
    "samples": pa.table({"index": range(len(HOSTILE)), "id": HOSTILE, "correct": [True, None] * 7}),
    "lorenz": pa.table({"layer": [1, 1], "position": [0, 1], "share": [0.0, 1.0]}),
    "unknown": pa.table({"x": pa.array([0.1, None, float("nan"), -1e-300]), "y": range(4)}),
}


@pytest.fixture
def run(tmp_path):
    with RunFolder.open(tmp_path / "run", {"verb": "test"}) as folder:
        for name, table in TABLES.items():
            folder.write_table(name, table)
        folder.finish()
    return tmp_path / "run"


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_parquet_equals_the_table(run, tmp_path):
    files = export(run, tmp_path / "out")
    assert sorted(f.name for f in (tmp_path / "out").iterdir()) == sorted(f.name for f in files)
    for name, table in TABLES.items():
        assert pl.read_parquet(tmp_path / "out" / f"{name}.parquet").equals(pl.from_arrow(table))


def test_json_equals_the_table_with_null_for_undefined_values(run, tmp_path):
    export(run, tmp_path / "out", "json")
    found = json.loads((tmp_path / "out" / "samples.json").read_text(encoding="utf-8"))
    assert found == TABLES["samples"].to_pylist()
    floats = json.loads((tmp_path / "out" / "unknown.json").read_text())
    assert [row["x"] for row in floats] == [0.1, None, None, -1e-300]


def test_csv_cells_are_no_formulas_and_are_read_back(run, tmp_path):
    export(run, tmp_path / "out", "csv")
    rows = read_csv(tmp_path / "out" / "samples.csv")
    for row, text in zip(rows, HOSTILE, strict=True):
        assert row["id"][:1] not in tuple("=+-@\t\r＝")
        assert (row["id"][1:] if row["id"].startswith("'") else row["id"]) == (text or "")
    assert rows[2]["id"] == "'-2"
    assert [row["x"] for row in read_csv(tmp_path / "out" / "unknown.csv")] == ["0.1", "", "", "-1e-300"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), min_size=1))
def test_any_text_is_read_back_from_csv(texts):
    data = encode(pl.DataFrame({"text": texts}), "csv").decode()
    cells = [row["text"] for row in csv.DictReader(io.StringIO(data, newline=""))]
    assert [cell.removeprefix("'") for cell in cells] == texts
    assert all(cell[0] not in "=+-@\t\r\n＝＋－＠" for cell in cells)


@pytest.mark.parametrize("form", FORMATS)
def test_the_dictionary_names_every_column(run, tmp_path, form):
    export(run, tmp_path / "out", form, ["samples"])
    described = json.loads((tmp_path / "out" / "columns.json").read_text(encoding="utf-8"))
    assert (described["format"], list(described["tables"])) == (form, ["samples"])
    assert ("escaped" in described) == (form == "csv")
    table = described["tables"]["samples"]
    assert (table["file"], table["rows"]) == (f"samples.{form}", len(HOSTILE))
    assert [column["name"] for column in table["columns"]] == ["index", "id", "correct"]
    assert all(column["meaning"] and column["type"] for column in table["columns"])


def test_only_the_requested_tables_are_written(run, tmp_path):
    files = export(run, tmp_path / "out", names=["lorenz", "lorenz"])
    assert [file.name for file in files] == ["lorenz.parquet", "columns.json"]


def test_a_file_that_is_there_is_never_overwritten(run, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "samples.csv").write_text("mine")
    with pytest.raises(RunError, match="expected a new file, got one that is there"):
        export(run, out, "csv")
    assert [(f.name, f.read_text()) for f in out.iterdir()] == [("samples.csv", "mine")]
    export(run, out, "json")
    with pytest.raises(RunError, match=r"columns\.json|\.json: expected a new file"):
        export(run, out, "json")


@pytest.mark.parametrize("name", ["nothing", "../inputs", ""])
def test_no_such_table(run, tmp_path, name):
    with pytest.raises(RunError, match="expected a table of lorenz, samples, unknown"):
        export(run, tmp_path / "out", names=[name])
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_place_of_the_folder(run, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(RunError, match=r"out: expected a folder, got a file; choose another path with --out"):
        export(run, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_incomplete_and_damaged_runs_are_refused(run, tmp_path):
    with pytest.raises(RunError, match="expected a run's folder"):
        export(tmp_path, tmp_path / "out")
    with pytest.raises(RunError, match="expected parquet or csv or json, got xlsx"):
        export(run, tmp_path / "out", "xlsx")
    table = run / "tables" / "samples.parquet"
    table.write_bytes(table.read_bytes()[:-1])
    with pytest.raises(RunError, match="damaged"):
        export(run, tmp_path / "out", names=["samples"])


def test_lists_and_records_are_json_in_csv():
    rows = [[{"layer": 0, "expert": 3}, {"layer": 1, "expert": 2}], [], None]
    table = pl.DataFrame({"k": [4, 6, 8], "committee": [[7, 13], [], None], "experts": rows, "x": [[1.5, None]] * 3})
    data = encode(table, "csv").decode()
    cells = list(csv.DictReader(io.StringIO(data, newline="")))
    assert [row["committee"] for row in cells] == ["[7, 13]", "[]", ""]
    assert [json.loads(row["experts"] or "null") for row in cells] == rows
    assert json.loads(cells[0]["x"]) == [1.5, None]
