"""What kind of token a type is: a function word, a content word, a piece of a word, a number and so on.

Function words are those of a published list: scikit-learn's `ENGLISH_STOP_WORDS` (318 words, BSD-3-Clause, from the
Information Retrieval Group of the University of Glasgow), read from the installed package. It has known oddities:
"system", "fire" and "interest" are on it, "does" is not (Nothman, Qin & Yurchak 2018).
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
_HALF_A_CHARACTER = "�"


@cache
def stop_words() -> frozenset[str]:
    """The published list that function words are told by."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return frozenset(ENGLISH_STOP_WORDS)


def token_class(text: str) -> TokenClass:
    """The class of a token by its text, as `token_strings` writes it: a space before what begins a word.

    `piece` is a token with letters that no space precedes: it continues a word, or begins one at the start of a line
    or in a script that writes no spaces. A type has one class, whatever it is part of here and there: " un" is a word.
    """
    word = text.strip()
    if _SPECIAL.fullmatch(word):
        return "special"
    if _HALF_A_CHARACTER in text:
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
    """Each token's text as it stands inside a line: " the" begins a word, "ing" continues one.

    A token is decoded behind another one, since many tokenizers drop the space of a text's first token. One that is
    part of a character's bytes holds "\N{REPLACEMENT CHARACTER}"; an id beyond the vocabulary is left out.

    Args:
        tokenizer: a transformers tokenizer.
        ids: token ids.
    """
    anchor = tokenizer.encode("a", add_special_tokens=False)
    before = _decoded(tokenizer, anchor)
    found = {}
    for token in dict.fromkeys(int(i) for i in ids):
        if not 0 <= token < len(tokenizer):
            continue
        text = _decoded(tokenizer, [*anchor, token])
        found[token] = text[len(before) :] if text.startswith(before) else _decoded(tokenizer, [token])
    return found


def _decoded(tokenizer: Any, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))
