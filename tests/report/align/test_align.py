"""An alignment as sentences, tables and a page, from align.json; tests/aligning tests its figures."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from report.browsing import opened
from report.conftest import HOSTILE
from report.markup import Elements, embedded, read_page

from turnout.errors import RunError
from turnout.report import alignment_sentences, alignment_tables, render, write_report
from turnout.runs import RunFolder


def accuracy(difference: float = 0.1, interval: list[float] | None = None) -> dict[str, Any]:
    shift = {"before": 0.5, "after": 0.5 + difference, "difference": difference, "interval": interval}
    return {"questions": 40, **shift, "gained": 6, "lost": 2, "detectable": 0.15}


def alignment(domain: str = "algebra", **changes: Any) -> dict[str, Any]:
    """Content of align.json of a trained alignment with one domain."""
    content = {
        "schema": 1,
        "model": {"id": "model", "digest": "ab" * 32, "dtype": "bfloat16"},
        "config": {"method": "roma", "manifold": {"k": 3}},
        "tasks": {"name": "train", "questions": 100, "left_out": {"decontaminated": 4}},
        "evaluation": {"name": "test", "questions": 40},
        "layers": [2, 3],
        "questions": 96,
        "successful": 48,
        "references": 48,
        "without_neighbours": 5,
        "manifold": {"before": 0.02, "after": 0.01},
        "training_accuracy": {"before": 0.5, "after": 0.75},
        "training": {"steps": 3, "stopped": "the loss was not finite"},
        "accuracy": {"overall": accuracy(0.1, [0.02, 0.18]), "domains": {domain: accuracy(0.1, [0.02, 0.18])}},
    }
    return content | changes


def rerouting() -> dict[str, Any]:
    wrong = {"overall": {"questions": 20, "right": 0.9, "control": 0.75, "excess": 0.15}}
    trained = {"training": None, "without_neighbours": 0, "rerouting": {"wrong": wrong}}
    return alignment(**trained, flops={"method": 1.5e12, "ratio": 3.0})


def store(path: Path, content: dict[str, Any]) -> Path:
    with RunFolder.open(path, {"verb": "align"}) as run:
        run.write_json("align.json", content)
        columns = ("loss", "cross_entropy", "penalty", "gradient_norm")
        steps = range(1, 4001)
        run.write_table(
            "curves", pa.table({"step": list(steps), **{name: [1.0 / s for s in steps] for name in columns}})
        )
        run.finish()
    return path


def test_sentences_have_result_training_and_limits() -> None:
    result, loss, trained, alone, stopped, removed, seed = alignment_sentences(alignment())
    assert result.endswith(
        "50.0% before, 60.0% after; 6 answers gained, 2 lost; difference +10.0 points [+2.0, +18.0]."
    )
    assert "0.02 with the base routers, 0.01 with the trained ones" in loss
    assert "50.0% (48 right) before, 75.0% after" in trained
    assert alone.startswith("5 of them have no neighbor")
    assert stopped == "The loss was not finite."
    assert removed.startswith("4 questions were left out")
    assert seed.startswith("This is one seed.")


@pytest.mark.parametrize(
    ("overall", "expected"),
    [
        (accuracy(0.1, [-0.02, 0.22]), "would show a difference of 15.0 points with a power of 80 %."),
        (accuracy(0.1, [-0.02, 0.22]) | {"detectable": None}, "The interval includes 0: no difference is shown."),
        (accuracy(0.0), "no answer changed between right and wrong."),
    ],
)
def test_no_difference_is_a_result_of_its_own(overall: dict[str, Any], expected: str) -> None:
    content = alignment(accuracy={"overall": overall, "domains": {}})
    assert alignment_sentences(content)[0].endswith(expected)


def test_without_evaluation_there_is_no_table() -> None:
    content = alignment(accuracy=None)
    assert alignment_sentences(content)[0].startswith("No evaluation questions were given")
    assert alignment_tables(content) == []


def test_a_method_that_trains_nothing_has_its_cost_and_control() -> None:
    _, cost, references, control, *_ = alignment_sentences(rerouting())
    assert cost == "Nothing was trained. A question takes 1.5e+12 FLOPs, 3.0 times those of the base model."
    assert references.startswith("48 training questions are references; 0 evaluation questions")
    assert "Only the excess of +15.0 points is evidence" in control


def test_the_page_has_accuracies_and_at_most_two_thousand_steps(tmp_path: Path) -> None:
    data = embedded(render(store(tmp_path / "run", alignment())))
    assert [row["domain"] for row in data["accuracy"]] == ["overall", "algebra"]
    assert len(data["curves"]["step"]) == len(data["curves"]["loss"]) == 2000
    assert dict(data["facts"])["Options"] == "k 3"


def test_another_schema_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"align\.json: expected an alignment of schema 1, got 2"):
        render(store(tmp_path / "run", alignment(schema=2)))


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    page = render(store(tmp_path / "run", alignment(HOSTILE[3])))
    assert not {"svg", "img", "b"} & {tag for tag, _ in Elements(page).tags}


@pytest.mark.browser
def test_the_page_draws_in_a_browser(browser: Any, tmp_path: Path) -> None:
    run = store(tmp_path / "run", alignment(HOSTILE[0]))
    with opened(browser, write_report(run), width=400) as page:
        page.wait_for_selector("#gradient_norm[data-drawn]")
        assert page.evaluate("Array.from(document.getElementById('differences').data[0].x)") == pytest.approx([10, 10])
        assert page.evaluate("document.getElementById('loss').data[0].y.length") == 2000
        assert HOSTILE[0] in page.locator("#accuracy bdi").all_text_contents()
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert embedded(read_page(run))["title"] == "model, roma"
