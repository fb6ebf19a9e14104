"""Documents, tokens on disk and training sequences."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from training.texts import recipe, write_corpus

from turnout import Listener, TrainRecipe
from turnout.errors import RecipeError
from turnout.tasks import worlds
from turnout.training.documents import documents
from turnout.training.recipe import Source
from turnout.training.sequences import Mixture, windows
from turnout.training.tokens import Tokens, load_tokenizer, prepare_tokens, tokenize


@pytest.fixture
def corpus(tmp_path):
    write_corpus(tmp_path)
    return tmp_path


def source(path):
    return Source(name="s", path=path)


def test_splits_share_no_document(corpus):
    splits = documents(source(corpus / "a.jsonl"), 0.1, seed=0)
    assert not set(splits["train"]) & set(splits["held_out"])
    assert len(splits["train"]) + len(splits["held_out"]) == 200
    assert 5 <= len(splits["held_out"]) <= 40


def test_the_split_of_a_document_is_fixed_and_duplicates_are_removed(corpus):
    before = documents(source(corpus / "a.jsonl"), 0.1, seed=0)
    rows = (corpus / "a.jsonl").read_text()
    (corpus / "more.jsonl").write_text((corpus / "b.jsonl").read_text() + rows + rows)
    after = documents(source(corpus / "more.jsonl"), 0.1, seed=0)
    assert set(before["held_out"]) <= set(after["held_out"])
    assert len(after["train"]) + len(after["held_out"]) == 400


def test_reads_a_folder_of_texts(corpus):
    folder = corpus / "texts"
    folder.mkdir()
    for i in range(50):
        (folder / f"{i}.txt").write_text(f"text number {i}")
    (folder / "image.png").write_bytes(b"\x89")
    splits = documents(source(folder), 0.2, seed=0)
    assert sorted(splits["train"] + splits["held_out"]) == sorted(f"text number {i}" for i in range(50))


@pytest.mark.parametrize("kind", ["statements", "questions"])
def test_worlds_use_their_own_splits(kind):
    splits = documents(Source(name="w", worlds=kind, samples=300), 0.2, seed=0)
    assert len(splits["held_out"]) > 40
    assert not set(splits["train"]) & set(splits["held_out"])


def test_questions_end_with_the_answer():
    text = documents(Source(name="w", worlds="questions", samples=9), 0.2, seed=5)["train"][0]
    question = next(iter(worlds.questions("train", 1, 5)))
    assert text.startswith(f"Question: {question.text}\nChoices:\nA. {question.choices[0]}\n")
    assert text.endswith(f"\nAnswer: {'ABCD'[question.answer]}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "x"}\n{"txt": "y"}\n', r"c.jsonl, row 2: expected an object with a string"),
        ('{"text": 3}\n', r"row 1"),
        ("[1]\n", r"row 1"),
        ("{\n", r"row 1"),
        ("", r"source s: expected documents for both splits, .*none for train"),
    ],
)
def test_refuses_bad_rows(tmp_path, content, message):
    (tmp_path / "c.jsonl").write_text(content)
    with pytest.raises(RecipeError, match=message):
        documents(source(tmp_path / "c.jsonl"), 0.1, seed=0)


def test_refuses_other_encodings_and_missing_files(tmp_path):
    (tmp_path / "l.txt").write_bytes("é".encode("latin-1"))
    with pytest.raises(RecipeError, match=r"l.txt: expected text in UTF-8"):
        documents(source(tmp_path / "l.txt"), 0.1, seed=0)
    with pytest.raises(RecipeError, match="nothing there"):
        documents(source(tmp_path / "none"), 0.1, seed=0)


def test_tokens_on_disk_are_the_documents(corpus):
    data = TrainRecipe.parse(recipe(corpus)).data
    tokens = prepare_tokens(data, corpus / "tokens", 0, Listener())
    tokenizer = load_tokenizer(data.tokenizer)
    for split in ("train", "held_out"):
        texts = documents(data.sources[0], data.held_out, 0)[split]
        expected = [token for row in tokenize(texts, tokenizer) for token in row]
        assert tokens[split]["a"].ids.tolist() == expected
        assert tokens[split]["a"].n_bytes == sum(len(text.encode()) for text in texts)
        assert expected.count(tokenizer.eos_token_id) == len(texts) == tokens[split]["a"].n_documents


def test_prepared_tokens_are_used_again(corpus):
    data = TrainRecipe.parse(recipe(corpus)).data
    prepare_tokens(data, corpus / "tokens", 0, Listener())
    (corpus / "a.jsonl").unlink()
    assert prepare_tokens(data, corpus / "tokens", 0, Listener())["train"]["a"].n_documents > 0


def ramp(name, n, first=0):
    return Tokens(name, np.arange(first, first + n, dtype=np.uint16), n, 1)


def test_packing_is_exact():
    mixture = Mixture({"a": ramp("a", 103), "b": ramp("b", 80, 1000)}, {"a": 3.0, "b": 1.0}, 10, 12, seed=1)
    rows = [mixture[i]["input_ids"].tolist() for i in range(len(mixture))]
    assert all(row == list(range(row[0], row[0] + 10)) for row in rows)
    assert sum(row[0] < 1000 for row in rows) == 9  # three quarters
    of_a = sorted(row[0] for row in rows if row[0] < 1000)
    assert len(set(of_a)) == 9
    assert {start % 10 for start in of_a} == {of_a[0] % 10}  # one pass: no token twice
    assert max(of_a) + 10 <= 103


def test_a_second_pass_starts_elsewhere():
    mixture = Mixture({"a": ramp("a", 105)}, {"a": 1.0}, 10, 25, seed=0)
    starts = [int(mixture[i]["input_ids"][0]) for i in range(25)]
    assert len({start % 10 for start in starts}) > 1  # ten a pass, three passes


def test_a_mixture_repeats_itself():
    one, two, other = (Mixture({"a": ramp("a", 500)}, {"a": 1.0}, 10, 30, seed=s) for s in (4, 4, 5))
    assert [r["input_ids"][0] for r in one] == [r["input_ids"][0] for r in two]
    assert [r["input_ids"][0] for r in one] != [r["input_ids"][0] for r in other]


def test_refuses_a_source_shorter_than_a_sequence():
    with pytest.raises(RecipeError, match=r"source a: expected at least 10 training tokens, got 9 tokens"):
        Mixture({"a": ramp("a", 9)}, {"a": 1.0}, 10, 1, seed=0)


def test_windows_cover_the_start():
    rows = windows(ramp("a", 47), 10, 30)
    assert [row["input_ids"].tolist() for row in rows] == [list(range(i, i + 10)) for i in (0, 10, 20)]


def test_refuses_a_folder_without_tokenizer(tmp_path):
    with pytest.raises(RecipeError, match=r"expected a folder with a tokenizer.json, got none there"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": "none"}))
    with pytest.raises(RecipeError, match="a tokenizer that transformers can load"):
        load_tokenizer(tmp_path)


def test_a_byte_order_mark_is_no_text(tmp_path):
    cases = Path(__file__).parents[1] / "fixtures/cases/jsonl_bom"
    for name in ("text_bom.jsonl", "bom.txt"):
        shutil.copy(cases / name, tmp_path)
    splits = documents(Source(name="marked", path=tmp_path), held_out=0.5, seed=0)
    assert {text.strip() for part in splits.values() for text in part} == {"hello", "again"}
