"""Runs that an earlier version stored: each kind is sound, is read, is drawn, and is recognized as what it is.

Version 0.1.0 wrote `tests/fixtures/runs-0.1.0`, on a random checkpoint of a few thousand parameters. It is not written
again: a change that cannot read it must read both forms.
"""

import json
import shutil
from pathlib import Path

import pytest

import turnout
from turnout.errors import RunError
from turnout.report import write_report
from turnout.runs import RunFolder

STORED = Path(__file__).parents[1] / "fixtures" / "runs-0.1.0"
KINDS = sorted(path.name for path in STORED.iterdir())
RESULTS = {
    "align": "Alignment",
    "audit": "Audit",
    "coupling": "CouplingResult",
    "mask": "Masking",
    "plan": "Plan",
    "vote": "VoteResult",
}


@pytest.fixture
def stored(tmp_path):
    """`stored("audit")` is a copy of that run."""

    def copy(kind):
        return shutil.copytree(STORED / kind, tmp_path / kind)

    return copy


def test_every_kind_is_there():
    assert KINDS == ["align", "audit", "coupling", "import", "mask", "plan", "vote"]


@pytest.mark.parametrize("kind", KINDS)
def test_sound(stored, kind):
    assert turnout.verify(stored(kind)) == []


@pytest.mark.parametrize("kind", ["align", "audit", "coupling", "plan"])
def test_drawn(stored, kind):
    page = write_report(stored(kind))
    assert "</html>" in page.read_text("utf-8")[-100:]


@pytest.mark.parametrize("kind", sorted(RESULTS))
def test_loaded(stored, kind):
    result = getattr(turnout, RESULTS[kind]).load(stored(kind))
    assert result.to_dict() == json.loads((STORED / kind / result.FILE).read_text())
    assert len(result.frame()) > 0
    assert repr(result)


def test_measured_again_from_its_trace(stored):
    before = turnout.Audit.load(stored("audit"))
    again = turnout.audit(before.path)
    for old, new in zip(before.layers, again.layers, strict=True):
        for name in ("committee", "candidates", "coverage", "gini", "jaccard_mean", "intervals", "nulls", "claim"):
            assert old[name] == new[name], name
    for table in ("contribution", "ranks", "experts", "jaccard", "lorenz", "silhouette", "samples"):
        assert before.table(table).equals(again.table(table)), table


def test_an_import_is_audited(stored):
    assert turnout.audit(stored("import")).kind == "frequency"


def test_compared_with_one_of_today(stored, tmp_path):
    run = stored("audit")
    turnout.audit(run, out=tmp_path / "again", scope="all")
    assert len(turnout.compare([run, tmp_path / "again"]).frame()) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_another_command_on_its_folder_is_refused(stored, kind):
    folder = stored(kind)
    with pytest.raises(RunError, match="as in the run that it"):
        RunFolder.open(folder, {"verb": "something else"})
