"""An audit's page in headless Chromium: what is drawn, what a click changes, what hostile names cannot do."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report.browsing import PATIENCE, until, visit
from report.browsing import opened as opened_page
from report.conftest import HOSTILE
from report.synthetic import MMLU_9, with_audit, write_run

import turnout
from turnout.report import figures, read_run, write_report
from turnout.report.audit import atlas

pytestmark = pytest.mark.browser

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def complaints() -> list[str]:
    """Console messages, errors, dialogs and requests of any page."""
    return []


@pytest.fixture(autouse=True)
def _quiet(complaints: list[str]) -> Iterator[None]:
    yield
    received = complaints.copy()
    complaints.clear()
    assert received == []


@pytest.fixture(scope="module")
def opened(browser: Any, complaints: list[str]) -> Iterator[Open]:
    """Open a run's page from disk, or return it if it is open."""
    pages: dict[tuple[Path, int, str], Any] = {}

    def open_page(run: Path, width: int = 1280, scheme: str = "light") -> Any:
        key = (run, width, scheme)
        if key not in pages:
            pages[key] = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            visit(pages[key], run / "report.html", complaints)
            until(pages[key], "window.Plotly && document.querySelector('#profiles figure')")
        return pages[key]

    yield open_page
    for page in pages.values():
        page.close()


def see(page: Any, figure: str) -> Any:
    """Scroll to a figure and wait until it is drawn."""
    node = page.locator(f"#{figure}")
    node.scroll_into_view_if_needed()
    page.wait_for_selector(f"#{figure}[data-drawn]")
    return node


def drawn(page: Any, figure: str, trace: int, key: str) -> np.ndarray:
    """One property of a trace in Plotly; None and NaN as NaN."""
    script = """([id, at, key]) => JSON.stringify(document.getElementById(id).data[at][key],
        (_, value) => ArrayBuffer.isView(value) ? Array.from(value) : value)"""
    return np.array(json.loads(page.evaluate(script, [figure, trace, key])), dtype=float)


def test_map_draws_the_stored_contributions_of_the_chosen_domain(opened: Open, large: Path) -> None:
    page, run = opened(large), read_run(large)
    see(page, "map")
    np.testing.assert_allclose(drawn(page, "map", 0, "z"), figures.heat_map(run, "gate")["values"], rtol=1e-6)
    for place, domain in ((1, MMLU_9[0]), (9, MMLU_9[8])):
        before = page.get_attribute("#map", "data-drawn")
        page.select_option("#domain", str(place))
        until(page, "before => document.getElementById('map').dataset.drawn !== before", before)
        expected = figures.heat_map(run, "gate", domain)["values"]
        np.testing.assert_allclose(drawn(page, "map", 0, "z"), expected, rtol=1e-6)
    page.select_option("#kind", "frequency")
    expected = figures.heat_map(run, "frequency", MMLU_9[8])["values"]
    np.testing.assert_array_equal(drawn(page, "map", 0, "z"), expected)
    page.select_option("#kind", "gate")
    page.select_option("#domain", "0")


def test_marks_are_the_committee_and_the_other_candidates(opened: Open, large: Path) -> None:
    page, expected = opened(large), figures.marks(read_run(large).layers)
    see(page, "map")
    for trace, kind in ((1, "candidates"), (2, "members")):
        at = np.stack([drawn(page, "map", trace, "y"), drawn(page, "map", trace, "x")], axis=1)
        np.testing.assert_array_equal(at, expected[kind])


def test_a_click_on_the_map_selects_that_expert(opened: Open, large: Path) -> None:
    page, run = opened(large), read_run(large)
    node = see(page, "map")
    place = page.evaluate(
        """() => { const gd = document.getElementById('map'), l = gd._fullLayout;
        return {x: l._size.l + l.xaxis.d2p(70), y: l._size.t + l.yaxis.d2p('12')}; }"""
    )
    node.click(position=place)
    until(page, "document.getElementById('card-title').textContent.startsWith('Layer 12, expert 70')")
    see(page, "card-figure")
    expected = figures.expert_card(run, 12, 70, "gate")
    np.testing.assert_allclose(drawn(page, "card-figure", 0, "x"), expected["contribution"], rtol=1e-6)
    assert page.text_content("#detail-title") == "Layer 12"


def test_arrow_keys_move_the_chosen_expert(opened: Open, large: Path) -> None:
    page = opened(large)
    page.select_option("#layer", "0")
    expert = read_run(large).layers[0]["committee"][0]
    see(page, "map").focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight" if expert < 127 else "ArrowLeft")
    wanted = expert + 1 if expert < 127 else expert - 1
    assert (page.text_content("#card-title") or "").startswith(f"Layer 1, expert {wanted}:")


def test_figures_of_one_layer(opened: Open, large: Path) -> None:
    page, run = opened(large), read_run(large)
    page.select_option("#layer", "7")
    see(page, "plane")
    plane = figures.rank_plane(run, 7)
    for trace, role in enumerate(("other", "candidate", "member")):
        experts = [e for e in plane["expert"] if plane["role"][e] == role]
        assert sorted(drawn(page, "plane", trace, "customdata")) == experts
    see(page, "lorenz")
    np.testing.assert_allclose(drawn(page, "lorenz", 2, "y"), figures.lorenz_curve(run, 7)["share"], atol=1e-6)
    see(page, "jaccard")
    np.testing.assert_allclose(drawn(page, "jaccard", 0, "z"), figures.jaccard_matrix(run, 7)["values"], rtol=1e-6)
    see(page, "specificity")
    values = np.array(figures.specificity(run)["values"], dtype=float).T
    np.testing.assert_allclose(drawn(page, "specificity", 0, "z"), values)


def test_figures_have_their_intervals_and_nulls(opened: Open, large: Path) -> None:
    page, run = opened(large), read_run(large)
    profile = figures.depth_profile(run, "coverage")
    see(page, "profile-coverage")
    ends = np.array(profile["interval"])
    for trace, expected in enumerate((ends[:, 0], ends[:, 1], profile["floor"], profile["rotated"])):
        np.testing.assert_allclose(drawn(page, "profile-coverage", trace, "y"), np.array(expected, dtype=float))
    for measure, null in (("coverage", "rotated"), ("jaccard_mean", "ceiling"), ("gini_topk", "floor")):
        shown = page.locator(f"#tiles .tile:has-text('{null}')").all_text_contents()
        assert len(shown) > 0, measure
    for cell in page.locator("#table td.measure").all_text_contents()[:60]:
        assert "[" in cell
        assert any(null in cell for null in ("floor", "rotated", "ceiling"))
    see(page, "signal-mutual_information")
    expected = [layer["nulls"]["domain_signal"]["mutual_information"]["null_q95"] for layer in run.layers]
    np.testing.assert_allclose(drawn(page, "signal-mutual_information", 1, "y"), expected)


def test_the_claim_is_first_in_words_and_by_layer(opened: Open, large: Path) -> None:
    page = opened(large)
    assert page.text_content("#headline") == (
        "A core committee in 6 of 48 layers; in 1 of them it receives most of the routing."
    )
    assert "dominant committee in layer 24" in page.text_content("#findings")
    page.get_by_role("button", name="Layer 24: dominant committee", exact=True).click()
    assert page.text_content("#detail-title") == "Layer 24"
    outcomes = page.locator("#claim tbody tr td:last-child").all_text_contents()
    assert outcomes == ["✓ passed"] * 5
    page.get_by_role("button", name="Layer 20: none", exact=True).click()
    assert page.locator("#claim tbody tr", has_text="✗ failed").count() >= 1
    assert "bits" in page.text_content("#nulls")


def test_the_card_shows_tokens_partners_and_intervals(opened: Open, large: Path) -> None:
    page, run = opened(large), read_run(large)
    page.select_option("#layer", "3")
    expert = run.layers[3]["committee"][0]
    places, texts = atlas.expert_tokens(run)
    shown = page.locator("#card-facts .token").all_text_contents()
    assert [text.replace("␣", " ") for text in shown] == [texts[int(place)] for place in places[3, expert]]
    assert f"{(expert + 1) % 128} (×3.5)" in page.text_content("#card-facts")
    see(page, "card-figure")
    card = figures.expert_card(run, 3, expert, "gate")
    current = "first => Math.abs(document.getElementById('card-figure').data[0].x[0] / first - 1) < 1e-5"
    until(page, current, card["contribution"][0])  # it may have been drawn before, for another layer
    reach = page.evaluate("document.getElementById('card-figure').data[0].error_x.array")
    np.testing.assert_allclose(np.array(card["contribution"]) + reach, card["high"], rtol=1e-5)
    assert page.locator("#tokens tbody tr").count() > 0


def test_masking_and_budgets_are_drawn_where_a_run_has_them(opened: Open, large: Path, hostile: Path) -> None:
    page = opened(large)
    see(page, "masking-0")
    np.testing.assert_allclose(drawn(page, "masking-0", 5, "x"), [0.09, 0.02])
    assert "cost more than other experts of the same gate mass" in page.text_content("#masking")
    see(page, "budget-retention")
    assert list(drawn(page, "budget-retention", 0, "x")) == [4, 8, 16]
    assert opened(hostile).locator("#masking-part").is_hidden()


def test_masking_an_audit_adds_its_bars_to_the_page(opened: Open, checkpoint: Any, tmp_path: Path) -> None:
    rows = [
        {
            "question": f"{s} + {i}?",
            "choices": list("wxyz"),
            "answer": "B",
            "subject": f"sums {s}",
            "domain": f"{s % 2}",
        }
        for s in range(4)
        for i in range(2)
    ]
    tasks, run = tmp_path / "sums.jsonl", tmp_path / "run"
    tasks.write_text("".join(json.dumps(row) + "\n" for row in rows))
    turnout.audit(checkpoint("olmoe"), tasks, run)
    assert opened(run).locator("#masking-part").is_hidden()
    masking = turnout.mask(run, checkpoint("olmoe"), tmp_path / "run-mask-committee-each", layers="each", controls=5)
    page = opened(run, width=1200)  # opened anew
    see(page, "masking-1")
    assert page.locator("#masking h3").nth(1).text_content() == "Log-probability of the answer: drop (nats)"
    frame = masking.frame().filter(measure="logprob")
    np.testing.assert_allclose(drawn(page, "masking-1", 5, "x"), frame["drop"], rtol=1e-6)
    np.testing.assert_allclose(drawn(page, "masking-1", 4, "x"), frame["predicted"], rtol=1e-6)
    assert page.locator("#masking tbody").nth(1).locator("tr").count() == len(frame)


def test_an_older_run_names_what_it_lacks(opened: Open, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 2, 8)
    write_report(run)
    page = opened(run)
    see(page, "profile-coverage")
    assert page.text_content("#headline").startswith("No claim")
    assert "no interval" in page.locator("#table td.measure").first.text_content()
    assert "from before audits computed intervals" in page.text_content("#notes")
    for part in ("#strip", "#masking-part:visible", "#budgets-part:visible", "#tokens-part:visible"):
        assert page.locator(part).count() == 0
    see(page, "plane")
    see(page, "specificity")


def test_table_sorts_by_any_heading(opened: Open, large: Path) -> None:
    page, layers = opened(large), read_run(large).layers
    page.get_by_role("button", name="Coverage", exact=True).click()
    shown = [int(text) for text in page.locator("#table tbody td:first-child").all_text_contents()]
    assert shown == [layer["layer"] for layer in sorted(layers, key=lambda one: -one["coverage"])]
    assert page.locator("#table th[aria-sort=descending]").text_content().startswith("Coverage")
    page.keyboard.press("Enter")  # the heading keeps the focus: Enter reverses the order
    assert page.locator("#table tbody td:first-child").first.text_content() == str(shown[-1])


def test_a_layer_selected_in_the_table_is_shown_below(opened: Open, large: Path) -> None:
    page = opened(large)
    page.get_by_role("button", name="Show layer 5", exact=True).click()
    assert page.text_content("#detail-title") == "Layer 5"
    assert page.locator("#table tr.chosen td").first.text_content() == "5"


def test_theme_follows_the_system_and_the_button(opened: Open, large: Path) -> None:
    page = opened(large, scheme="dark")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark


def test_policy_blocks_injected_scripts_and_requests(opened: Open, hostile: Path, complaints: list[str]) -> None:
    page = opened(hostile)
    page.evaluate(
        """() => { const script = document.createElement('script'); script.textContent = 'window.__pwned = 1';
        document.body.append(script); const image = document.createElement('img'); image.src = 'https://turnout.invalid/';
        document.body.append(image); }"""
    )
    assert page.evaluate("fetch('https://turnout.invalid/').catch(() => 'refused')") == "refused"
    assert page.evaluate("window.__pwned") is None
    page.evaluate("document.querySelectorAll('body > img').forEach((image) => image.remove())")
    assert all("Content Security Policy" in line or "turnout.invalid" in line for line in complaints)
    complaints.clear()


def test_nothing_is_wider_than_a_narrow_window(opened: Open, hostile: Path) -> None:
    page = opened(hostile, width=400)
    for figure in ("map", "plane", "jaccard", "specificity"):
        see(page, figure)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_printing_draws_every_figure(opened: Open, large: Path) -> None:
    page = opened(large, scheme="dark")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("figure:not([data-drawn])").count() == 0
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_hostile_names_stay_text(opened: Open, hostile: Path) -> None:
    page = opened(hostile)
    for figure in ("map", "card-figure", "jaccard", "specificity", "signal-silhouette"):
        see(page, figure)
    assert any("<script>window.__pwned" in text for text in page.locator("#tokens .token").all_text_contents())
    for place in range(len(HOSTILE) + 1):
        page.select_option("#domain", str(place))
    box = page.locator("#jaccard .nsewdrag").bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 20)  # the hover label has two names
    page.wait_for_timeout(300)
    assert page.evaluate("window.__pwned") is None
    assert page.locator("main img, main b b, figure a, figure b, svg script, main script").count() == 0
    labels = page.locator("#specificity .ytick text").all_text_contents()
    assert "<script>window.__pwned=1</s…" in labels[0]
    assert "<b>bold</b>" in labels[4]
    assert page.locator("#questions bdi").first.text_content() == HOSTILE[0]
    assert page.locator("#title").text_content() == HOSTILE[0]
    lengths = "Array.from(document.querySelectorAll('bdi, option, text'), (node) => node.textContent.length)"
    longest = max(page.evaluate(lengths))
    assert longest <= 300


def test_large_page_opens_quickly(browser: Any, large: Path) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE)
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.goto((large / "report.html").as_uri())
    page.locator("#profile-coverage").scroll_into_view_if_needed()
    page.wait_for_selector("#profile-coverage[data-drawn]")
    spent = {metric["name"]: metric["value"] for metric in session.send("Performance.getMetrics")["metrics"]}
    page.close()
    # Seconds of the page's own thread: a busy machine changes them little. The measurement itself takes half a second.
    assert 0 < spent["TaskDuration"] < 4


def test_a_new_measure_is_on_the_page(browser: Any, tmp_path: Path) -> None:
    """An entry in audit.json's `measures` is enough: tile, profile and column."""
    source = write_run(tmp_path / "source", 3, 8, evidence=True)
    added = {
        "name": "added",
        "label": "Added measure",
        "short": "added",
        "unit": "experts",
        "direction": "more experts",
    }
    added |= {
        "format": ".1f",
        "bounds": [0, None],
        "floor": {"formula": "1", "value": 1.0},
        "interval": None,
        "nulls": {},
    }
    audit = json.loads((source / "audit.json").read_text())
    audit["measures"].append(added | {"description": "An added measure."})
    audit["overall"]["added"] = {"mean": 2.5, "min": 1.5, "max": 3.5, "undefined": 0}
    audit["overall_without"]["Lang-Ling"]["added"] = audit["overall"]["added"]
    for place, layer in enumerate(audit["layers"]):
        layer["added"] = 1.5 + place
    run = with_audit(source, tmp_path / "run", audit)
    write_report(run)
    with opened_page(browser, run / "report.html") as page:
        see(page, "profile-added")
        assert list(drawn(page, "profile-added", 5, "y")) == [1.5, 2.5, 3.5]
        assert list(drawn(page, "profile-added", 2, "y")) == [1.0] * 3
        assert page.locator("#tiles .tile", has_text="Added measure").locator(".number").text_content() == "2.5"
        page.get_by_role("button", name="Added measure", exact=True).click()
        assert page.locator("#table tbody tr:first-child td.measure").last.locator(".value").text_content() == "3.5"
        assert page.locator("#table thead th").last.locator("small").text_content() == "floor 1"
