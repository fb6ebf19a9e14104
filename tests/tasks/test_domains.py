"""Domain maps: the packaged ones cover all of MMLU; a user's own is read, or refused with the row."""

import json

import pytest

from turnout.errors import TaskError
from turnout.tasks import load_map, load_tasks
from turnout.tasks.mmlu import from_harness

SUBJECTS = {row.fields["subject"] for row in from_harness()[0]}
NINE = [
    "STEM-Math",
    "STEM-Physics",
    "STEM-Chemistry",
    "STEM-BioMed",
    "CS-Eng",
    "SocSci",
    "Humanities",
    "Lang-Ling",
    "Biz-Law",
]


def test_mmlu_9_covers_every_subject():
    nine = load_map("mmlu-9")
    assert len(SUBJECTS) == 57
    assert set(nine.mapping) == SUBJECTS
    assert list(nine.domains) == NINE
    assert {s for s, d in nine.mapping.items() if d == "Lang-Ling"} == {"formal_logic", "logical_fallacies"}


def test_mmlu_4_is_mmlus_own():
    four = load_map("mmlu-4")
    assert set(four.mapping) == SUBJECTS
    assert {d: list(four.mapping.values()).count(d) for d in four.domains} == {
        "STEM": 18,
        "humanities": 13,
        "social sciences": 12,
        "other": 14,
    }


def test_subject_is_its_own_domain():
    tasks = load_tasks("mmlu-dev", domains="subject")
    assert set(tasks.domains) == SUBJECTS
    assert all(q.domain == q.subject for q in tasks.questions)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("map.json", json.dumps({"law": "B", "art": "A"})),
        ("map.csv", "law,B\nart,A\n"),
        ("map.csv", "﻿Subject,Domain\r\nlaw,B\r\n\r\nart,A\r\nlaw,B\r\n"),
        ("map.csv", '"law", B\n"art",A'),
    ],
)
def test_a_users_own_map(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    result = load_map(path)
    assert (dict(result.mapping), result.domains, result.name) == ({"law": "B", "art": "A"}, ("B", "A"), name)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("map.json", b"{}", "a file without subjects"),
        ("map.csv", b"\n\n", "a file without subjects"),
        ("map.json", b"[1, 2]", "no JSON object"),
        ("map.json", b'{"law": 3}', "subject 'law' of .*name of its domain, got 3"),
        ("map.json", b'{"law": ["A"]}', "subject 'law'"),
        ("map.json", b"{", "in JSON"),
        ("map.json", b'{"law": "A", "law": "B"}', "one domain for each subject, got 'law' in 'A' and in 'B'"),
        ("map.csv", b"law,A\nart\n", "row 2 of .*two cells"),
        ("map.csv", b"law,A\nart,\n", "row 2 of .*two cells"),
        ("map.csv", b"law,A\nlaw,B\n", "row 2 of .*one domain"),
        ("map.csv", b"law,\xff\n", "UTF-8"),
    ],
)
def test_a_bad_map_is_refused_with_the_row(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TaskError, match=message):
        load_map(tmp_path / name)


def test_an_unknown_map_lists_the_known_ones():
    with pytest.raises(TaskError, match="mmlu-9, mmlu-4, subject"):
        load_map("mmlu-7")


def test_a_subject_in_no_domain_is_named(tmp_path):
    (tmp_path / "map.json").write_text('{"anatomy": "A"}')
    with pytest.raises(TaskError, match=r"the domain map map.json, got 'abstract_algebra'; .*--domains subject"):
        load_tasks("mmlu-dev", domains=tmp_path / "map.json")


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(TaskError, match=r"expected a domain map: .*, got a folder"):
        load_map(tmp_path)
