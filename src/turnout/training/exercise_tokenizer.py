"""The tokenizer of facts and chains: 512 words, each of them one token."""

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from turnout.tasks.exercises.vocabulary import END, PAD, VOCABULARY

EXERCISES = Path("exercises")
"""What a recipe writes for it in the place of a tokenizer's folder."""
_CONTEXT = 1024


def exercise_tokenizer() -> PreTrainedTokenizerFast:
    """A fast tokenizer that splits at spaces; a word that is not in the vocabulary is an error, not a token."""
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token=None))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.decoder = decoders.WordPiece(prefix="##", cleanup=False)  # joins by spaces
    return PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token=END, pad_token=PAD, model_max_length=_CONTEXT, padding_side="right"
    )
