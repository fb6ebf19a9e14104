"""When do routers settle? A tiny model trained with its checkpoints kept, each audited, all against the last.

`python experiments/saturation/run.py OUT texts.jsonl`, from the repository's root. Needs the corpora that `make
embedded` fetches and the tokenizer that it trains; texts.jsonl is what experiments/masking/texts.py writes. Leaves
OUT/model-STEP, OUT/step-STEP (audits of the texts) and OUT/compare.html, and prints, layer by layer, the share of
experts that a token chooses as in the last checkpoint (router saturation, arXiv 2409.02060), and in parentheses what
the loads alone would give. The same command again takes up what is there. What was seen: docs/findings/index.md.
"""

import sys
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

import turnout
from turnout.training import TrainRecipe, train
from turnout.training.data import load_tokenizer

STEPS = (10, 30, 100, 300)  # of the 1,000 that the recipe plans
HERE = Path(__file__).parent


class Keep(TrainerCallback):
    """Saves the model after some steps, each as a plain checkpoint, and ends the training with the last."""

    def __init__(self, out: Path, tokenizer: Any) -> None:
        self.out, self.tokenizer = out, tokenizer

    def on_step_end(
        self,
        _args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: PreTrainedModel | None = None,
        **_: Any,
    ) -> None:
        """Save after the steps that are kept; stop after the last of them."""
        if state.global_step in STEPS:
            assert model is not None
            model.save_pretrained(self.out / f"model-{state.global_step}")
            self.tokenizer.save_pretrained(self.out / f"model-{state.global_step}")
        control.should_training_stop |= state.global_step >= STEPS[-1]


def main(out: Path, texts: Path) -> None:
    """Train, audit, compare, print."""
    recipe = TrainRecipe.load(HERE / "recipe.yaml")
    if not (out / f"model-{STEPS[-1]}").exists():
        train(recipe, out / "train", callbacks=[Keep(out, load_tokenizer(recipe.data.tokenizer))])
    runs = [out / f"step-{step}" for step in STEPS]
    for step, run in zip(STEPS, runs, strict=True):
        turnout.audit(out / f"model-{step}", texts, run, scope="all")
    found = turnout.compare(runs, against_last=True, out=out / "compare.html")
    print("layer | " + " | ".join(f"step {step}" for step in STEPS[:-1]))
    for layer in found.layers:
        shares = [layer["agreement"][at] for at in range(len(STEPS) - 1)]
        said = [
            f"{of['value']:.3f} [{of['interval'][0]:.3f}, {of['interval'][1]:.3f}] ({of['by_load']:.3f})"
            for of in shares
        ]
        print(f"{layer['layer']} | " + " | ".join(said))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
