"""Rebuild the embedded model from nothing: `make embedded`, or `python -m turnout.embedded.build` from the root.

Downloads the corpora, trains the tokenizer, trains all stages (about an hour on one core), writes the model as
bfloat16 into `model/` here, then measures it and writes the tables of docs/findings/embedded.md. Finished steps are
kept: a killed build resumes.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from turnout.embedded import evaluate, model_path
from turnout.embedded.corpora import fetch
from turnout.embedded.tokenizer import train_tokenizer
from turnout.progress import Progress, silent
from turnout.training import TrainRecipe, train
from turnout.training.data import documents

CORPORA = Path("corpora")
# Each stage's recipe and its run's folder, which the next stage starts from.
STAGES = dict(zip(("recipe", "further", "balanced"), evaluate.RUNS, strict=True))
VOCABULARY = 4096
DOCUMENTS_FOR_TOKENIZER = 20_000  # of each source at most


def build(progress: Progress = silent) -> Path:
    """Build the model; its folder."""
    fetch(CORPORA, progress)
    here = Path(__file__).parent
    recipes = {name: TrainRecipe.load(here / f"{name}.yaml") for name in STAGES}
    first = recipes["recipe"]
    if not (first.data.tokenizer / "tokenizer.json").exists():
        assert first.model is not None
        train_tokenizer(_texts(first), VOCABULARY, first.data.tokenizer, first.model.context)
    for name, folder in STAGES.items():
        train(recipes[name], folder, progress)
    return export(evaluate.RUNS[-1] / "model", model_path())


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
