"""Router saturation: a tiny model trained with kept checkpoints, each audited and compared with the last.

    python -m experiments.saturation.run OUT texts.jsonl

Needs the corpora that `make embedded` fetches and the tokenizer that it trains; texts.jsonl is the output of
experiments/masking/texts.py. Writes OUT/model-STEP, OUT/step-STEP (audits of the texts) and OUT/compare.html. Prints by
layer the share of experts that a token chooses as in the last checkpoint (router saturation, arXiv 2409.02060), and in
parentheses the share expected from the loads alone. The same command resumes. Results: docs/findings/index.md.
"""

import sys
from pathlib import Path

import turnout
from experiments.shared.training import KeepCheckpoints
from turnout.training.tokens import load_tokenizer

STEPS = (10, 30, 100, 300)  # of the 1,000 that the recipe plans
HERE = Path(__file__).parent


def main(out: Path, texts: Path) -> None:
    """Train, audit, compare, print."""
    recipe = turnout.TrainRecipe.load(HERE / "recipe.yaml")
    if not (out / f"model-{STEPS[-1]}").exists():
        tokenizer = load_tokenizer(recipe.data.tokenizer)
        keep = KeepCheckpoints(STEPS, lambda step: out / f"model-{step}", tokenizer, stop=True)
        turnout.train(recipe, out / "train", callbacks=[keep])
    runs = [out / f"step-{step}" for step in STEPS]
    for step, run in zip(STEPS, runs, strict=True):
        turnout.audit(out / f"model-{step}", texts, run, scope="all")
    comparison = turnout.compare(runs, against_last=True, out=out / "compare.html")
    print("layer | " + " | ".join(f"step {step}" for step in STEPS[:-1]))
    for layer in comparison.layers:
        shares = [layer["agreement"][at] for at in range(len(STEPS) - 1)]
        cells = [
            f"{of['value']:.3f} [{of['interval'][0]:.3f}, {of['interval'][1]:.3f}] ({of['by_load']:.3f})"
            for of in shares
        ]
        print(f"{layer['layer']} | " + " | ".join(cells))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
