"""Corpora from the packages' formats: pages, chapters, scenes, manual pages; fetching and refusals."""

import json

import pytest

from turnout.embedded import corpora
from turnout.errors import RecipeError

WORDNET = (
    "  1 This software and database is being provided to you  ",
    '00001740 03 n 01 entity 0 001 ~ 00001930 n 0000 | that which is; "an entity"  ',
    "00002137 03 n 02 abstract_entity 0 Big_Ben 0 000 | a concept  ",
    "00002138 00 a 01 galore(ip) 0 000 | in great numbers  ",
    "00002139 03 n 01 double 0 000 | a concept  ",
)
BIBLE = """

Genesis 1

  1 In the beginning God created
the heaven and the earth.
  2 And the earth was without form; 3 times.

Genesis 2

  1 Thus the heavens
"""


def test_wordnet_entries():
    (page,) = corpora.wordnet_pages(WORDNET, "noun")
    assert page.split("\n") == [
        'entity (noun): that which is; "an entity"',
        "abstract entity, Big Ben (noun): a concept",
        "galore (noun): in great numbers",
    ]


def test_wordnet_pages_contain_neighboring_entries():
    lines = [f"0000 03 n 01 word{i} 0 000 | gloss {i}" for i in range(50)]
    pages = list(corpora.wordnet_pages(lines, "noun"))
    assert [page.count("\n") + 1 for page in pages] == [24, 24, 2]


def test_bible_chapters():
    assert list(corpora.bible_chapters(BIBLE)) == [
        "Genesis 1\n1 In the beginning God created the heaven and the earth.\n"
        "2 And the earth was without form; 3 times.",
        "Genesis 2\n1 Thus the heavens",
    ]


def test_play_scenes():
    text = "HAMLET\n" + "x" * 300 + "\r\n\r\n\r\n\r\nACT I.\n\nScene I. Elsinore.\n" + "Who's there?\n" * 30
    scenes = list(corpora.play_scenes(text))
    assert [scene.split("\n")[0] for scene in scenes] == ["HAMLET", "Scene I. Elsinore."]


def test_manual_page():
    html = """<html><head><title>T</title></head><body><div class="navheader"><div>Prev</div></div>
    <h2>Parallel  Plans</h2><p>Each   worker
    runs.</p><pre>SELECT 1;
  SELECT 2;</pre><table><tr><td>a</td><td>b &amp; c</td></tr></table><div class="navfooter">Next</div></body></html>"""
    text = corpora.manual_page(html)
    assert text.split("\n\n") == ["Parallel Plans", "Each worker runs.", "SELECT 1;\nSELECT 2;", "a b & c"]


def test_documents_are_written_once(tmp_path):
    file = tmp_path / "deep" / "source.jsonl"
    corpora.write_documents(file, ["one\ntwo", " one\ntwo ", "", "é"])
    assert [json.loads(row)["text"] for row in file.read_text("utf-8").splitlines()] == ["one\ntwo", "é"]
    assert list(file.parent.iterdir()) == [file]


def test_existing_files_are_kept(tmp_path, monkeypatch):
    calls = []

    def source(packages):
        calls.append(packages)
        yield "text"

    monkeypatch.setattr(corpora, "SOURCES", {"s": source})
    for _ in range(2):
        assert corpora.fetch(tmp_path) == {"s": tmp_path / "s.jsonl"}
    assert calls == [tmp_path / "packages"]


def test_a_missing_package_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RecipeError, match=r"apt-get download wordnet-base: expected the command to succeed"):
        corpora.fetch(tmp_path / "corpora")
    assert not list((tmp_path / "corpora").glob("*.jsonl"))
