"""The embedded model's tokenizer: byte-level BPE, so that any text has tokens, trained on the training split alone."""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from turnout.errors import RecipeError

END = "<|endoftext|>"
PAD = "<|pad|>"


def train_tokenizer(texts: Iterable[str], vocabulary: int, folder: Path, context: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE of `vocabulary` tokens, saved into `folder` for transformers. It has no chat template.

    Raises:
        RecipeError: the texts gave too few tokens, or an answer letter (" A" to " D") that is more than one token.
    """
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    if bpe.get_vocab_size() != vocabulary:
        raise RecipeError(
            "tokenizer", expected=f"{vocabulary} tokens", received=bpe.get_vocab_size(), do="give more text"
        )
    lacking = [letter for letter in "ABCD" if bpe.token_to_id(f"Ġ{letter}") is None]
    if lacking:
        raise RecipeError(
            "tokenizer", expected="each letter after a space to be one token", received=f"none for {lacking}"
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token=END, pad_token=PAD, model_max_length=context, padding_side="right"
    )
    fast.save_pretrained(folder)
    return fast
