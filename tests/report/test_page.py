"""What the page is made of, read as text: one file, nothing loaded, nothing that a name could turn into markup."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from report.conftest import HOSTILE
from report.synthetic import write_run

from turnout.errors import RunError
from turnout.report import read_run, render, write_report
from turnout.report.audit import figures
from turnout.report.kit.page import _parsed_once, escaped_json, packed
from turnout.runs import RunFolder

SOURCES = Path(figures.__file__).parents[1]
LOADS = {"src", "href", "srcset", "action", "data", "poster", "background"}


class Elements(HTMLParser):
    """Start tags with their attributes, and the text of script elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._script = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._script = tag == "script"
        if self._script:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._script = False

    def handle_data(self, data: str) -> None:
        if self._script:
            self.scripts[-1] += data


@pytest.fixture(scope="module")
def page(hostile: Path) -> str:
    return (hostile / "report.html").read_text(encoding="utf-8")


def test_page_loads_nothing(page: str) -> None:
    for tag, attributes in Elements(page).tags:
        assert tag not in {"link", "iframe", "img", "object", "embed", "base", "form"}
        assert {value for name, value in attributes.items() if name in LOADS} <= {"#layers"}


def test_policy_names_the_scripts_and_allows_no_connection(page: str) -> None:
    elements = Elements(page)
    policy = next(a["content"] for tag, a in elements.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "connect-src" not in policy
    assert "unsafe-eval" not in policy
    assert "unsafe-inline" not in policy.split("style-src")[0]
    _, *scripts = elements.scripts
    digests = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    assert re.findall(r"'sha256-([^']+)'", policy) == digests


def test_names_stand_in_the_data_block_only_and_escaped(page: str) -> None:
    data, *others = Elements(page).scripts
    assert not set("<>&\u2028\u2029") & set(data)
    assert json.loads(data)["domains"] == list(HOSTILE)
    assert "__pwned" not in page.replace(data, "")
    assert len(others) == 2


def test_no_name_is_taken_for_a_hole_of_the_template(page: str) -> None:
    assert page.count("{{plotly}}") == Elements(page).scripts[0].count("{{plotly}}") > 0  # in the data alone
    assert len(Elements(page).scripts) == 3


@pytest.mark.parametrize(
    "forbidden", ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "http"]
)
def test_scripts_only_place_text(forbidden: str) -> None:
    for name in ("audit/page.js", "kit/charts.js"):
        assert forbidden not in (SOURCES / name).read_text(encoding="utf-8")


def test_escaped_json_is_the_same_value() -> None:
    value = {"</script>": ["<!--", "&amp;", "\u2028", "é", None, 1.5]}
    text = escaped_json(value)
    assert json.loads(text) == value
    assert not set("<>&\u2028") & set(text)


def test_undefined_numbers_are_refused_not_written() -> None:
    with pytest.raises(ValueError, match="JSON"):
        escaped_json(float("nan"))


def test_packed_numbers_come_back() -> None:
    array = np.array([[0.25, np.nan], [3.0, -1.0]])
    stored = packed(array)
    numbers = np.frombuffer(base64.b64decode(stored["bytes"]), dtype="<f4").reshape(stored["shape"])
    np.testing.assert_array_equal(numbers, array)


def test_large_page_stays_small(large: Path) -> None:
    assert (large / "report.html").stat().st_size < 10_000_000


def test_same_run_same_page(large: Path) -> None:
    assert render(large) == (large / "report.html").read_text(encoding="utf-8")


def test_layers_of_different_width_are_drawn(tmp_path: Path) -> None:
    data = json.loads(Elements(render(write_run(tmp_path / "run", 3, [4, 8, 6]))).scripts[0])
    assert data["contribution"][0]["shape"] == [10, 3, 8]
    assert [len(layer["candidates"]) > 0 for layer in data["layers"]] == [True] * 3


def test_header_says_whose_routing_it_is(large: Path) -> None:
    data = json.loads(Elements((large / "report.html").read_text(encoding="utf-8")).scripts[0])
    assert data["title"] == "synthetic/moe"
    assert data["words"][0] == (
        "OlmoeForCausalLM, bfloat16, 6.92B parameters: 48 MoE layers of 128 routed experts, 8 chosen per token."
    )
    assert "questions of mmlu-dev, in 9 domains by the map mmlu-9" in data["words"][1]
    assert data["words"][3] == "It answered 43.8 % of 16 questions right (95 % interval 23.0 to 67.0 %)."
    assert dict(map(tuple, data["facts"]))["Weights, SHA-256"] == "ab" * 32


def test_unfinished_run_has_no_page(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="got no run"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []
    RunFolder.open(tmp_path, {}).close()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(RunError, match="expected a complete run, got an unfinished one"):
        write_report(tmp_path)
    assert sorted(tmp_path.iterdir()) == before


def test_page_may_be_written_again(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", 1, 4)
    assert write_report(path) == write_report(path) == path / "report.html"
    assert read_run(path).layer_numbers == [0]


def test_plotly_is_parsed_once_where_it_is_made_as_expected() -> None:
    made = "(function(root, factory) {} (typeof self !== 'undefined' ? self : this, () => {\nlet a = '}));';\n}));\n"
    expected = (
        "(function(root, factory) {} (typeof self !== 'undefined' ? self : this, (() => {\nlet a = '}));';\n})));"
    )
    assert _parsed_once(made) == expected
    for other in ("(() => {\n}));\n", made + "more()", made + made):
        assert _parsed_once(other) == other
    plotly = files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")
    assert len(_parsed_once(plotly)) == len(plotly) + 2  # this release of plotly is
