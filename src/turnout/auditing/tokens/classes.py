"""Class of a token type: function word, content word, piece of a word, number, punctuation, space or special.

Function words are those of a published list: scikit-learn's `ENGLISH_STOP_WORDS` (318 words, BSD-3-Clause, from the
Information Retrieval Group of the University of Glasgow), read from the installed package. The list has known flaws: it
includes "system", "fire" and "interest", and lacks "does" (Nothman, Qin & Yurchak 2018).
"""

import re
from collections.abc import Iterable
from functools import cache
from typing import Any, Literal, get_args

TokenClass = Literal["function", "content", "piece", "number", "punctuation", "space", "special"]
CLASSES: tuple[TokenClass, ...] = get_args(TokenClass)

_SPECIAL = re.compile(
    r"<\|.*\|>|</?s>|<(pad|unk|bos|eos|mask|cls|sep)>|\[(pad|unk|bos|eos|mask|cls|sep)\]|<(start|end)_of_\w+>",
    re.IGNORECASE | re.DOTALL,
)
_CONTRACTIONS = frozenset({"'s", "'re", "'ve", "'ll", "'d", "'m", "'t", "n't"})
_INCOMPLETE_CHARACTER = "\N{REPLACEMENT CHARACTER}"


@cache
def stop_words() -> frozenset[str]:
    """The published list of function words."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return frozenset(ENGLISH_STOP_WORDS)


def token_class(text: str) -> TokenClass:
    """Class of a token from its text, as `token_strings` writes it: with a space before the start of a word.

    `piece` is a token with letters and no space before it: it continues a word, or starts one at the beginning of a
    line or in a script without spaces. A type has one class in all contexts: " un" is a word even in " unhappy".
    """
    word = text.strip()
    if _SPECIAL.fullmatch(word):
        return "special"
    if _INCOMPLETE_CHARACTER in text:
        return "piece"
    if not word:
        return "space"
    if not any(c.isalnum() for c in word):
        return "punctuation"
    if not any(c.isalpha() for c in word):
        return "number"
    plain = word.replace("’", "'").casefold()
    if plain in _CONTRACTIONS:
        return "function"
    if not text[0].isspace():
        return "piece"
    return "function" if plain in stop_words() else "content"


def token_strings(tokenizer: Any, ids: Iterable[int]) -> dict[int, str]:
    """Text of each token inside a line: " the" starts a word, "ing" continues one.

    A token is decoded after another one, since many tokenizers drop the space of a text's first token. A token that is
    part of a character's bytes contains "\N{REPLACEMENT CHARACTER}"; an id beyond the vocabulary is left out.

    Args:
        tokenizer: a transformers tokenizer.
        ids: token ids.
    """
    anchor = tokenizer.encode("a", add_special_tokens=False)
    before = _decoded(tokenizer, anchor)
    texts = {}
    for token in dict.fromkeys(int(i) for i in ids):
        if not 0 <= token < len(tokenizer):
            continue
        text = _decoded(tokenizer, [*anchor, token])
        texts[token] = text[len(before) :] if text.startswith(before) else _decoded(tokenizer, [token])
    return texts


def _decoded(tokenizer: Any, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))
