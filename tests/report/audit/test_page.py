"""The page of an audit read as text: nothing is loaded, and no name can become markup."""

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest
from report.conftest import HOSTILE
from report.markup import Elements, embedded, read_page
from report.synthetic import write_run

from turnout.report import read_run, render
from turnout.report.audit.page import page_data

LOADS = {"src", "href", "srcset", "action", "data", "poster", "background"}


@pytest.fixture(scope="module")
def page(hostile: Path) -> str:
    return read_page(hostile)


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


def test_names_are_in_the_data_block_only_and_escaped(page: str) -> None:
    data, *others = Elements(page).scripts
    assert not set("<>&\u2028\u2029") & set(data)
    assert json.loads(data)["domains"] == list(HOSTILE)
    assert "__pwned" not in page.replace(data, "")
    assert len(others) == 2


def test_no_name_is_replaced_as_part_of_the_template(page: str) -> None:
    assert page.count("{{plotly}}") == Elements(page).scripts[0].count("{{plotly}}") > 0  # in the data alone
    assert len(Elements(page).scripts) == 3


def test_large_page_stays_small(large: Path) -> None:
    assert (large / "report.html").stat().st_size < 10_000_000


def test_same_run_same_page(large: Path) -> None:
    assert render(large) == read_page(large)


def test_layers_of_different_width_are_drawn(tmp_path: Path) -> None:
    data = embedded(render(write_run(tmp_path / "run", 3, [4, 8, 6])))
    assert data["contribution"][0]["shape"] == [10, 3, 8]
    assert [len(layer["candidates"]) > 0 for layer in data["layers"]] == [True] * 3


def test_header_names_model_prompts_and_accuracy(large: Path) -> None:
    data = embedded(read_page(large))
    assert data["title"] == "synthetic/moe"
    assert data["words"][0] == (
        "OlmoeForCausalLM, bfloat16, 6.92B parameters: 48 MoE layers of 128 routed experts, 8 chosen per token."
    )
    assert "questions of mmlu-dev in 9 domains (domain map mmlu-9)" in data["words"][1]
    assert data["words"][3] == "Accuracy: 43.8 % of 16 questions (95 % interval 23.0 to 67.0 %)."
    assert dict(map(tuple, data["facts"]))["Weights, SHA-256"] == "ab" * 32


def test_a_run_from_before_the_table_of_measures_has_the_same_figures(large: Path) -> None:
    run = read_run(large)
    del run.audit["measures"]
    older, current = page_data(run), page_data(read_run(large))
    for key in ("layers", "overall", "profiles", "budgets"):
        assert older[key] == current[key], key
    keys = ("name", "label", "bounds", "format", "floor")
    assert [[one[key] for key in keys] for one in older["measures"]] == [
        [one[key] for key in keys] for one in current["measures"]
    ]
