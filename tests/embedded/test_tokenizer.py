"""The tokenizer of the embedded model: round trips, digits, letters, and too little text."""

import pytest

from turnout.embedded.build import train_tokenizer
from turnout.errors import RecipeError
from turnout.tasks import letter_ids

TEXTS = [*(f"Answer: {letter}" for letter in "ABCD" * 5), "the gate of the router", "a router of a gate"]


def test_round_trips_and_single_tokens(tmp_path):
    tokenizer = train_tokenizer(TEXTS, 275, tmp_path, 64)
    assert len(tokenizer) == 275
    assert tokenizer.chat_template is None
    for text in ("Ünïcode 漢字\n\ttab", " the  gate ", "2024"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert len(tokenizer("2024")["input_ids"]) == 4  # digits one by one
    assert len(set(letter_ids(tokenizer, 4))) == 4


@pytest.mark.parametrize(
    ("texts", "vocabulary", "message"),
    [(["aa"], 300, "300 tokens"), (["the gate " * 9] * 3, 262, "each letter after a space")],
)
def test_too_little_text_is_refused(tmp_path, texts, vocabulary, message):
    with pytest.raises(RecipeError, match=message):
        train_tokenizer(texts, vocabulary, tmp_path, 64)
