"""The 512 words that facts and chains are written in: each is one token of the tokenizer made from them."""

from itertools import product

MODULUS = 23
NUMBERS = tuple(map(str, range(MODULUS)))
MARKS = ("is", "start", "add", "sub", "mul", ":", ".")
END, PAD, UNKNOWN = "<end>", "<pad>", "<unk>"
N_WORDS = 479

# Consonant–vowel syllables; 479 of the pairs, spread over all of them.
_SYLLABLES = [c + v for c, v in product("bdfgklmnprstvz", "aeiou")]
_PAIRS = [a + b for a, b in product(_SYLLABLES, _SYLLABLES)]
WORDS = tuple(_PAIRS[i * len(_PAIRS) // N_WORDS] for i in range(N_WORDS))

VOCABULARY = (END, PAD, UNKNOWN, *MARKS, *NUMBERS, *WORDS)
assert len(set(VOCABULARY)) == len(VOCABULARY) == 512
