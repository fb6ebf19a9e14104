"""The files that the documentation's commands name: `my-model`, `train.jsonl`, `routed.npz`, … in one folder."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from tiny import tiny_model

from turnout.tasks import worlds

TASK = """
task: my_task
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/questions.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_choice: "{{choices}}"
doc_to_target: answer
metric_list: [{metric: acc}]
"""
RECIPE = """
model: {hidden_size: 32, layers: 2, heads: 2, experts: 4, top_k: 2, expert_width: 32, context: 64}
data:
  tokenizer: exercises
  sequence_length: 32
  evaluation_tokens: 64
  sources: [{name: chains, chains: [1], samples: 200}]
schedule: {tokens: 8192, batch_size: 8, learning_rate: 0.01}
"""
# Long prompts of MMLU in a tokenizer of one token a byte.
CONTEXT = 8192


def fill(folder: Path, chains_model: Path) -> None:
    """Write every file that a page may name into `folder`; `chains_model` becomes `my-chains-model`."""
    tiny_model("olmoe", folder / "my-model", max_position_embeddings=CONTEXT)
    tiny_model("llama", folder / "my-dense-model", max_position_embeddings=CONTEXT)
    shutil.copytree(chains_model, folder / "my-chains-model")
    _questions(folder / "train.jsonl", "train", 90)
    _questions(folder / "test.jsonl", "test", 45)
    texts = list(worlds.statements("train", 300))
    _write(folder / "texts.jsonl", ({"text": text} for text in texts))
    (folder / "texts.txt").write_text("\n".join(texts), encoding="utf-8")
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    _task(folder / "my_tasks")
    _routed(folder)


def _questions(path: Path, split: str, n: int) -> None:
    _write(
        path,
        (
            {
                "id": q.id,
                "question": q.text,
                "choices": q.choices,
                "answer": q.answer,
                "subject": q.subject,
                "domain": q.domain,
            }
            for q in worlds.questions(split, n)
        ),
    )


def _task(folder: Path) -> None:
    folder.mkdir()
    _questions(folder / "questions.jsonl", "test", 18)
    (folder / "my_task.yaml").write_text(TASK.replace("FOLDER", str(folder)).lstrip(), encoding="utf-8")


def _routed(folder: Path, tokens: int = 12, layers: int = 3, experts: int = 8, top_k: int = 2) -> None:
    draw = np.random.default_rng(0)
    names = [f"sample-{n}" for n in range(6)]
    arrays = {
        name: draw.permuted(np.tile(np.arange(experts), (tokens, layers, 1)), axis=-1)[..., :top_k] for name in names
    }
    np.savez(folder / "routed.npz", **arrays)
    _write(
        folder / "samples.jsonl",
        (
            {
                "id": name,
                "subject": f"subject {n}",
                "domain": "even" if n % 2 == 0 else "odd",
                "tokens": list(range(tokens)),
            }
            for n, name in enumerate(names)
        ),
    )


def _write(path: Path, rows: Iterable[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
