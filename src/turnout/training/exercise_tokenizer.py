"""The tokenizer of facts and chains: 512 words, each of them one token."""

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from turnout.tasks.exercises.generated import END, PAD, UNKNOWN, VOCABULARY

EXERCISES = Path("exercises")
"""What a recipe writes for it in the place of a tokenizer's folder."""
_CONTEXT = 1024


def exercise_tokenizer() -> PreTrainedTokenizerFast:
    """A fast tokenizer that splits at spaces; any other word is <unk>."""
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token=UNKNOWN))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.decoder = decoders.WordPiece(prefix="##", cleanup=False)  # joins by spaces
    return PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token=END, pad_token=PAD, unk_token=UNKNOWN, model_max_length=_CONTEXT
    )
