"""Evaluation of the embedded model: `python -m turnout.embedded.evaluate` writes the figures and the docs' tables.

Shapes: T tokens, L MoE layers, E experts, V vocabulary.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from turnout.embedded import model_path
from turnout.embedded.ngram import KneserNey
from turnout.embedded.tables import write_tables
from turnout.listener import Listener
from turnout.models.fast.experts import fast_experts
from turnout.models.forward.batches import plan_batches
from turnout.models.forward.capture import capture
from turnout.models.wrap.anatomy import MoE
from turnout.models.wrap.load import load
from turnout.runs import RunFolder
from turnout.tasks import encode, letter_ids, load_tasks, worlds
from turnout.tasks.question import Question
from turnout.training.recipe import TrainRecipe
from turnout.training.run import TOKENS
from turnout.training.tokens import Tokens, prepare_tokens

WINDOW, STRIDE = 512, 256
TOKEN_BUDGET = 8192
WORLD_QUESTIONS, WORLD_SEED = 3600, 7
RUNS = (Path("corpora/run"), Path("corpora/further"), Path("corpora/balanced"))  # the stages, in order
RESULTS = Path(__file__).with_name("evaluation.json")


def evaluate(runs: Sequence[Path], listener: Listener | None = None) -> dict[str, Any]:
    """Measure the embedded model on the held-out text of its first training run and on questions.

    Returns:
        JSON values: `training`, `bits_per_byte`, `load`, `accuracy`, `prompts`.
    """
    listener = listener or Listener()
    moe = load(str(model_path()), dtype="float32", device="cpu")
    first = RunFolder.read(runs[0])
    recipe = TrainRecipe.parse(dict(first.inputs["recipe"]), stored=True)  # type: ignore[call-overload]  # JSON written by train
    tokens = prepare_tokens(recipe.data, first.path / TOKENS, recipe.seed, Listener())
    return {
        "schema": 1,
        "model": moe.describe() | {"id": "embedded"},
        "training": [_training(RunFolder.read(run)) for run in runs],
        "bits_per_byte": _bits_per_byte(moe, tokens, listener),
        "load": _load(moe, tokens["held_out"], listener),
        "accuracy": _accuracies(moe, listener),
        "prompts": _prompt_lengths(moe),
    }


def token_bits(moe: MoE, ids: NDArray[np.integer], listener: Listener | None = None) -> NDArray[np.float64]:
    """−log2 p of each token but the first, [T − 1]; windows overlap by half.

    Tokens after the first window have at least `STRIDE` tokens of context.
    """
    listener = listener or Listener()
    bits = np.empty(len(ids) - 1)
    scored = 0
    with torch.inference_mode(), fast_experts(moe.model):
        while scored < len(bits):
            start = max(0, scored - (WINDOW - STRIDE))
            window = torch.from_numpy(ids[start : start + WINDOW].astype(np.int64))[None]
            logits = moe.model(input_ids=window, output_router_logits=False, use_cache=False).logits[0, :-1]
            first = scored - start
            nats = nn.functional.cross_entropy(logits[first:], window[0, 1 + first :], reduction="none")
            bits[scored : scored + len(nats)] = nats.double().numpy() / np.log(2)
            scored += len(nats)
            listener.progress("held-out text", scored, len(bits), "tokens")
    return bits


def _bits_per_byte(
    moe: MoE, tokens: Mapping[str, Mapping[str, Tokens]], listener: Listener
) -> dict[str, dict[str, Any]]:
    """Bits per byte by source: the model; unigram and order 3 of all training text; order 3 of the source."""
    vocabulary = moe.model.config.vocab_size
    everything = np.concatenate([t.ids for t in tokens["train"].values()])
    pooled = {"unigram": KneserNey(everything, vocabulary, 1), "order_3": KneserNey(everything, vocabulary, 3)}
    rows = {}
    for name, held_out in tokens["held_out"].items():
        ids = np.asarray(held_out.ids)
        models = pooled | {"order_3_own": KneserNey(np.asarray(tokens["train"][name].ids), vocabulary, 3)}
        row: dict[str, Any] = {"bytes": held_out.n_bytes, "tokens": len(ids), "documents": held_out.n_documents}
        row["train_tokens"] = len(tokens["train"][name].ids)
        row["model"] = token_bits(moe, ids, listener).sum() / held_out.n_bytes
        row |= {key: model.bits(ids)[1:].sum() / held_out.n_bytes for key, model in models.items()}
        rows[name] = row
    return rows


def _load(moe: MoE, held_out: Mapping[str, Tokens], listener: Listener) -> list[dict[str, Any]]:
    """Each expert's share [E] of a layer's choices on held-out text: mean over the sources, and by source."""
    shares = {}
    for name, tokens in held_out.items():
        n = len(tokens.ids) // WINDOW
        rows = [np.asarray(tokens.ids[i * WINDOW : (i + 1) * WINDOW]).tolist() for i in range(min(n, 128))]
        counts: Any = 0
        for start in range(0, len(rows), TOKEN_BUDGET // WINDOW):
            batch = capture(moe, rows[start : start + TOKEN_BUDGET // WINDOW])
            counts = counts + np.stack([layer.counts_BE.sum(0).numpy() for layer in batch.layers])
            listener.progress(f"load on {name}", min(start + TOKEN_BUDGET // WINDOW, len(rows)), len(rows), "windows")
        shares[name] = counts / counts.sum(1, keepdims=True)
    mean_LE = np.mean(list(shares.values()), axis=0)
    largest_LE = np.max(list(shares.values()), axis=0)
    return [
        {
            "layer": layer.layer,
            "share": mean_LE[i].tolist(),
            "dead": int((largest_LE[i] == 0).sum()),
            "by_source": {name: _spread(share_LE[i]) for name, share_LE in shares.items()},
            **_spread(mean_LE[i]),
        }
        for i, layer in enumerate(moe.layers)
    ]


def _spread(share_E: NDArray[np.float64]) -> dict[str, float]:
    return {"min": share_E.min(), "max": share_E.max(), "cv": share_E.std() / share_E.mean()}


def _accuracies(moe: MoE, listener: Listener) -> dict[str, dict[str, list[int]]]:
    """Numbers of right answers and of questions by domain, for worlds' test split and MMLU's dev questions."""
    sets = {
        "worlds": list(worlds.questions("test", WORLD_QUESTIONS, WORLD_SEED)),
        "mmlu-dev": list(load_tasks("mmlu-dev").questions),
    }
    return {name: _accuracy(moe, questions, listener) for name, questions in sets.items()}


def _accuracy(moe: MoE, questions: Sequence[Question], listener: Listener) -> dict[str, list[int]]:
    prompts = [encode(moe.tokenizer, question) for question in questions]
    counts: dict[str, list[int]] = {question.domain: [0, 0] for question in questions}
    done = 0
    for batch in plan_batches([len(p) for p in prompts], TOKEN_BUDGET):
        letters = [letter_ids(moe.tokenizer, len(questions[i].choices)) for i in batch]
        trace = capture(moe, [prompts[i] for i in batch], letters=letters)
        assert trace.choice_logprobs is not None
        for i, logprobs in zip(batch, trace.choice_logprobs, strict=True):
            counts[questions[i].domain][0] += int(np.argmax(logprobs)) == questions[i].answer
            counts[questions[i].domain][1] += 1
        done += len(batch)
        listener.progress("questions", done, len(questions), "questions")
    return counts


def _prompt_lengths(moe: MoE) -> dict[str, int]:
    """MMLU dev prompts in tokens: their number, the longest, and the number longer than a training sequence."""
    lengths = [len(encode(moe.tokenizer, question)) for question in load_tasks("mmlu-dev").questions]
    return {"questions": len(lengths), "longest": max(lengths), "beyond_training": sum(n > WINDOW for n in lengths)}


def _training(run: RunFolder) -> dict[str, Any]:
    stored = run.read_json("train.json")
    return {
        "recipe": run.inputs["recipe"],
        "tokens": stored["tokens"],
        "steps": stored["steps"],
        "seconds": run.manifest["timings"]["seconds"],  # type: ignore[index]  # JSON written by train
    }


def main(runs: Sequence[Path] = RUNS) -> None:
    """Measure; write evaluation.json and the tables of docs/findings/embedded.md."""
    result = evaluate(runs)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    write_tables(result, Path("docs/findings/embedded.md"))


if __name__ == "__main__":
    main()
