"""Rebuild the embedded model: tokenizer, training stages, export.

`make embedded`, or `python -m turnout.embedded.build` in the repository root. Downloads the corpora, trains the
tokenizer on the training split, trains all stages (about an hour on one core), writes the model as bfloat16 into the
package, measures it and writes the tables of docs/findings/embedded.md. Finished steps are kept: an interrupted build
resumes.
"""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from turnout.embedded import evaluate, model_path
from turnout.embedded.corpora import fetch
from turnout.errors import RecipeError
from turnout.listener import Listener
from turnout.runs.opening import open_run
from turnout.training.documents import documents
from turnout.training.model import starting_model
from turnout.training.recipe import TrainRecipe
from turnout.training.run import KEEP, inputs_of
from turnout.training.run import run as run_training
from turnout.training.tokens import load_tokenizer

CORPORA = Path("corpora")
# Name of each stage's recipe → folder of its run, which the next stage starts from.
STAGES = dict(zip(("recipe", "further", "balanced"), evaluate.RUNS, strict=True))
VOCABULARY = 4096
DOCUMENTS_FOR_TOKENIZER = 20_000  # largest number from each source
END, PAD = "<|endoftext|>", "<|pad|>"


def train_tokenizer(texts: Iterable[str], vocabulary: int, folder: Path, context: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE of `vocabulary` tokens, without chat template, and save it in transformers' format.

    Byte-level, so that any text has tokens.

    Raises:
        RecipeError: too few tokens from the texts, or an answer letter (" A" to " D") that is not one token.
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
            "tokenizer", expected=f"{vocabulary} tokens", received=bpe.get_vocab_size(), do="use more text"
        )
    missing = [letter for letter in "ABCD" if bpe.token_to_id(f"Ġ{letter}") is None]
    if missing:
        raise RecipeError(
            "tokenizer", expected="each letter after a space to be one token", received=f"none for {missing}"
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token=END, pad_token=PAD, model_max_length=context, padding_side="right"
    )
    fast.save_pretrained(folder)
    return fast


def build(listener: Listener | None = None) -> Path:
    """Build the model; returns its folder."""
    listener = listener or Listener()
    fetch(CORPORA, listener)
    here = Path(__file__).parent
    recipes = {name: TrainRecipe.load(here / f"{name}.yaml") for name in STAGES}
    first = recipes["recipe"]
    if not (first.data.tokenizer / "tokenizer.json").exists():
        assert first.model is not None
        train_tokenizer(_texts(first), VOCABULARY, first.data.tokenizer, first.model.context)
    for name, folder in STAGES.items():
        _train(recipes[name], folder, listener)
    return export(evaluate.RUNS[-1] / "model", model_path())


def _train(recipe: TrainRecipe, folder: Path, listener: Listener) -> None:
    """Train one stage, unless it is complete."""
    tokenizer = load_tokenizer(recipe.data.tokenizer)
    with open_run(folder, inputs_of(recipe), listener, keep=KEEP) as run:
        if not run.complete:
            run_training(recipe, starting_model(recipe, tokenizer), tokenizer, run, listener)


def export(trained: Path, folder: Path) -> Path:
    """Write the trained model as bfloat16 safetensors, with its tokenizer, into `folder`, which is replaced."""
    model = AutoModelForCausalLM.from_pretrained(trained, dtype=torch.bfloat16)
    model.config.output_router_logits, model.config.use_cache = False, True  # they were for training
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(trained).save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # safetensors writes for its owner alone
    return folder


def _texts(recipe: TrainRecipe) -> Iterator[str]:
    for source in recipe.data.sources:
        yield from documents(source, recipe.data.held_out, recipe.seed)["train"][:DOCUMENTS_FOR_TOKENIZER]


if __name__ == "__main__":
    build()
    evaluate.main()
