"""The page's tables against the stored evaluation, and the evaluation against the model in the package."""

import json
from pathlib import Path

import pytest

from turnout.embedded.evaluate import RESULTS
from turnout.embedded.tables import GOAL, with_tables
from turnout.ops import wilson

PAGE = Path(__file__).parents[2] / "docs/findings/embedded.md"


@pytest.fixture(scope="module")
def results():
    return json.loads(RESULTS.read_text())


def test_the_page_has_the_stored_figures(results):
    text = PAGE.read_text("utf-8")
    assert with_tables(results, text) == text, "stale: run python -m turnout.embedded.evaluate"
    assert text.count("<!-- table ") == 7


def test_no_expert_is_dead_on_held_out_text(results):
    assert [layer["dead"] for layer in results["load"]] == [0] * len(results["load"])
    for layer in results["load"]:
        assert sum(layer["share"]) == pytest.approx(1)


def test_beats_the_order_3_model_on_every_source(results):
    assert len(results["bits_per_byte"]) == 6
    for name, row in results["bits_per_byte"].items():
        assert row["model"] <= (1 - GOAL) * min(row["unigram"], row["order_3"]), name


def test_the_figures_are_of_the_packaged_model(results):
    from turnout.embedded import model_path
    from turnout.models.wrap.load import load

    assert load(str(model_path()), dtype="float32").digest() == results["model"]["digest"]


def test_an_unknown_table_is_refused(results):
    with pytest.raises(KeyError, match="poems"):
        with_tables(results, "<!-- table poems -->\n<!-- end -->")


def test_wilson():
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 10)[0] == 0
