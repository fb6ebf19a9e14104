"""Files of questions: round trips, domains, limits, and one line for every kind of bad row or file."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.errors import TaskError
from turnout.tasks import load_tasks, worlds

GOOD = {"question": "1 + 1?", "choices": ["1", "2"], "answer": 1, "subject": "sums", "domain": "maths"}


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def row(**changes):
    return {k: v for k, v in (GOOD | changes).items() if v is not ...}


def refused(path, message, **options):
    with pytest.raises(TaskError, match=message) as caught:
        load_tasks(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Accepted ------------------------------------------------------------------------------------------------------


def test_a_row_of_each_kind(tmp_path):
    rows = [row(), row(answer="b", id="mine"), row(answer=...), {"text": "Once", "domain": "en", "more": 1}]
    tasks = load_tasks(jsonl(tmp_path / "q.jsonl", rows))
    assert [q.id for q in tasks.questions] == ["0", "mine", "2", "3"]
    assert [q.answer for q in tasks.questions] == [1, 1, None, None]
    assert tasks.questions[3].choices == ()
    assert tasks.questions[3].subject == "en"
    assert (tasks.domains, tasks.name, tasks.domain_map) == (("maths", "en"), "q.jsonl", "file")


def test_empty_lines_and_a_byte_order_mark(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(row()).encode() + b"\r\n\n   \n" + json.dumps(row()).encode())
    assert [q.id for q in load_tasks(path).questions] == ["0", "1"]


def test_a_files_own_domain_is_used_unless_a_map_is_given(tmp_path):
    path = jsonl(tmp_path / "q.jsonl", [row(subject="anatomy"), row(subject="anatomy", domain=...)])
    mixed = load_tasks(path)
    assert [q.domain for q in mixed.questions] == ["maths", "STEM-BioMed"]
    assert mixed.domain_map == "file+mmlu-9"
    assert [q.domain for q in load_tasks(path, domains="mmlu-4").questions] == ["other", "other"]
    assert [q.domain for q in load_tasks(path, domains="subject").questions] == ["anatomy", "anatomy"]


def test_rows_without_subject_and_domain(tmp_path):
    path = jsonl(tmp_path / "q.jsonl", [row(subject=..., domain=...)])
    assert load_tasks(path).questions[0].domain == "all"
    refused(path, "line 1 of .*a subject, for the domain map", domains="subject")


def test_limit_is_for_each_subject(tmp_path):
    path = jsonl(tmp_path / "q.jsonl", [row(subject=s) for s in "aababb"])
    assert [q.id for q in load_tasks(path, limit=2).questions] == ["0", "1", "2", "4"]
    assert len(load_tasks(path, limit=100).questions) == 6
    for limit in (0, -1):
        refused(path, "at least 1 question for each subject", limit=limit)


def test_worlds_have_their_own_domains():
    tasks = load_tasks("worlds")
    assert tasks.domains == worlds.DOMAINS
    assert tasks.questions == tuple(worlds.questions("test", len(tasks.questions)))
    assert len(load_tasks("worlds", limit=1).questions) == len(tasks.subjects())
    assert load_tasks("worlds", split="train").digest != tasks.digest
    assert load_tasks("worlds", domains="subject").domains[0] == "people/year-value"


STRINGS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(str.strip)
NASTY = st.sampled_from(
    [
        '"quoted", \\"',
        "line\nbreak\r\n",
        "\u202eright to left عربى",
        "a\u2028b\u2029c\x85d",
        "\x00\x1f",
        "é" * 10_000,
        "<script>",
    ]
)
QUESTIONS = st.lists(
    st.builds(
        lambda question, choices, answer, subject, domain: {
            "question": question,
            "choices": choices,
            "answer": None if answer is None else answer % len(choices),
            "subject": subject,
            "domain": domain,
        },
        STRINGS | NASTY,
        st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | NASTY, min_size=2, max_size=26),
        st.none() | st.integers(0, 25),
        STRINGS | NASTY,
        STRINGS | NASTY,
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=40, deadline=None)
@given(rows=QUESTIONS, escaped=st.booleans())
def test_round_trip_and_the_same_digest_from_jsonl_and_parquet(tmp_path_factory, rows, escaped):
    folder = tmp_path_factory.mktemp("rows")
    lines = [json.dumps(r, ensure_ascii=escaped) for r in rows]
    (folder / "a.jsonl").write_bytes(("\n".join(lines) + "\n").encode())
    pq.write_table(pa.Table.from_pylist(rows), folder / "b.parquet")
    one, two = load_tasks(folder / "a.jsonl"), load_tasks(folder / "b.parquet")
    assert one.questions == two.questions
    assert one.digest == two.digest
    for read, made in zip(one.questions, rows, strict=True):
        assert (read.text, list(read.choices), read.answer) == (made["question"], made["choices"], made["answer"])
        assert (read.subject, read.domain) == (made["subject"], made["domain"])


def test_digest_depends_on_the_content_alone(tmp_path):
    (tmp_path / "else").mkdir()
    rows = [row(), {"text": "Once", "subject": "prose", "domain": "en"}]
    first = load_tasks(jsonl(tmp_path / "a.jsonl", rows))
    moved = load_tasks(jsonl(tmp_path / "else" / "b.jsonl", rows))
    changed = load_tasks(jsonl(tmp_path / "c.jsonl", [row(answer=0), rows[1]]))
    assert first.digest == moved.digest != changed.digest


def test_equivalent_parquet_types(tmp_path):
    table = pa.table(
        {
            "id": pa.array([7, 8]),
            "question": pa.array(["a?", "b?"]).dictionary_encode(),
            "choices": pa.array([["1", "2"], ["3", "4"]], pa.large_list(pa.large_string())),
            "answer": pa.array([1.0, None]),
            "subject": pa.array(["s", "s"], pa.large_string()),
            "domain": ["d", "d"],
            "embedding": pa.array([[1.0], [2.0]]),
        }
    )
    pq.write_table(table, tmp_path / "q.parquet")
    assert [(q.id, q.answer) for q in load_tasks(tmp_path / "q.parquet").questions] == [("7", 1), ("8", None)]


# Refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"subject": "s"}, "question and choices, or text, got neither"),
        ({"question": "Why?"}, "question and choices, or text, got a question without choices"),
        ({"choices": ["a", "b"]}, "a question that is not empty, got no question"),
        (row(question="  \n"), "a question that is not empty, got an empty one"),
        (row(question=7), "question to be text, got a number"),
        (row(choices="a, b"), "choices to be a list of texts, got text"),
        (row(choices={"A": "a"}), "choices to be a list of texts, got an object"),
        (row(choices=[]), "2 to 26 choices, got 0"),
        (row(choices=["a"]), "2 to 26 choices, got 1"),
        (row(choices=["a"] * 27), "2 to 26 choices, got 27"),
        (row(choices=["a", None]), "choice B to be text, got NoneType"),
        (row(choices=[1, 2]), "choice A to be text, got a number"),
        ({"text": ""}, "a text that is not empty, got"),
        ({"text": ["a"]}, "text to be text, got a list"),
        (row(answer=2), "an answer from 0 to 1, or A to B, got 2"),
        (row(answer=-1), "an answer from 0 to 1, or A to B, got -1"),
        (row(answer=0.5), "an answer from 0 to 1, or A to B, got 0.5"),
        (row(answer=True), "an answer from 0 to 1"),
        (row(answer=[1]), "an answer from 0 to 1, or A to B, got a list"),
        (row(answer="C"), "an answer letter from A to B, got 'C'"),
        (row(answer="AB"), "an answer letter from A to B, got 'AB'"),
        (row(answer=""), "an answer letter from A to B, got ''"),
        (row(subject=3), "subject to be text, got a number"),
        (row(subject=" "), "a subject that is not empty"),
        (row(domain=["d"]), "domain to be text, got a list"),
        (row(domain=""), "a domain that is not empty"),
        (row(id=[1]), "id to be text, got a list"),
        (row(id=True), "id to be text, got true or false"),
        (row(subject="cookery", domain=...), "a subject of the domain map mmlu-9, got 'cookery'"),
        (row(id="0"), "a unique id, got '0', as line 1"),
        ([1, 2], "one JSON object with a question"),
        ({}, "one JSON object with a question"),
        ("text", "one JSON object with a question"),
    ],
)
def test_a_bad_row_is_named(tmp_path, bad, message):
    message = refused(jsonl(tmp_path / "q.jsonl", [row(), bad]), message)
    assert message.startswith("line 2 of ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "at least one question, got none"),
        (b"\n\n", "at least one question, got none"),
        (b'{"text": "a"}\n{"text": ', "line 2 of .*one JSON object"),
        (b'{"text": "a"}\n\n{"text": "\xff"}', "line 3 of .*UTF-8, got byte 0xff"),
        (b'{"text": "\\ud800"}', "line 1 of .*text in Unicode"),
        (b"[" * 100_000, "line 1 of .*one JSON object"),
        (b'[{"text": "a"}]', "line 1 of .*one JSON object with a question"),
        (b"a,b\n1,2\n", "line 1 of .*one JSON object"),
        (b"PAR1 and then nothing", "a Parquet file"),
    ],
)
def test_a_bad_file(tmp_path, content, message):
    (tmp_path / "q.jsonl").write_bytes(content)
    refused(tmp_path / "q.jsonl", message)


def test_a_parquet_file_without_the_columns(tmp_path):
    pq.write_table(pa.table({"prompt": ["a"], "choices": [["a", "b"]]}), tmp_path / "q.parquet")
    refused(tmp_path / "q.parquet", "the columns question and choices, or text, got prompt, choices")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"question": [1], "choices": [["a", "b"]]}, "row 1 of .*question to be text, got a number"),
        ({"question": [b"a"], "choices": [["a", "b"]]}, "row 1 of .*question to be text, got bytes"),
        ({"text": ["a", None]}, "row 2 of .*got neither"),
        ({"text": ["a"], "subject": [4]}, "row 1 of .*subject to be text"),
    ],
)
def test_parquet_columns_of_another_type(tmp_path, columns, message):
    pq.write_table(pa.table(columns), tmp_path / "q.parquet")
    refused(tmp_path / "q.parquet", message)


def test_parquet_that_is_not_utf8(tmp_path):
    raw = pa.Array.from_buffers(pa.string(), 2, pa.array([b"a", b"\xff"], pa.binary()).buffers())
    pq.write_table(pa.table({"text": raw}), tmp_path / "q.parquet")
    refused(tmp_path / "q.parquet", "UTF-8")


def test_a_damaged_parquet_file(tmp_path):
    pq.write_table(pa.table({"text": ["a" * 1000] * 100}), tmp_path / "q.parquet")
    data = bytearray((tmp_path / "q.parquet").read_bytes())
    (tmp_path / "q.parquet").write_bytes(data[: len(data) // 2])
    refused(tmp_path / "q.parquet", "a Parquet file of questions")


@pytest.mark.parametrize("spec", ["mmlu_dev", "no/such.jsonl", "./questions", "a/b/c", ""])
def test_an_unknown_name_lists_the_known_ones(spec):
    refused(spec, "mmlu, mmlu-dev, worlds")


def test_a_file_that_cannot_be_read(tmp_path, monkeypatch):
    path = jsonl(tmp_path / "q.jsonl", [row()])

    def denied(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", denied)
    refused(path, "a file of questions, got Permission denied")
