"""Questions of the experiment, drawn as PLAN.md says: runs/align/questions/{tuning,quarter,dev,test}.jsonl."""

import random
from collections.abc import Iterable, Sequence
from pathlib import Path

from experiments.align.base import DOMAINS, QUESTIONS, SEED
from experiments.shared.rows import question_row
from turnout.runs import atomic
from turnout.tasks import worlds
from turnout.tasks.question import Question

FOLDER = Path("runs/align/questions")
TUNED = tuple(name for name in DOMAINS if name != "logic")
HELD_OUT = "logic"
TUNING, DEVELOPMENT, TEST = 1000, 600, 400
_DRAWN = 40  # questions drawn for each that is kept: the base model was trained on most of the train split


def fresh(split: str, seed: int, domains: Sequence[str], known: Iterable[str], n: int) -> list[Question]:
    """Draw `n` questions whose text is not in `known`.

    Raises:
        SystemExit: there are not so many.
    """
    texts, kept = set(known), []
    for question in worlds.questions(split, _DRAWN * n, seed, domains):
        if question.text not in texts:
            texts.add(question.text)
            kept.append(question)
        if len(kept) == n:
            return kept
    raise SystemExit(f"{split}, seed {seed}: expected {n} new questions, got {len(kept)}")


def prepare() -> None:
    """Draw and write the files, unless they are there."""
    if (FOLDER / "test.jsonl").exists():
        return
    trained = {question.text for question in worlds.questions("train", QUESTIONS, SEED, DOMAINS)}
    tuning = fresh("train", 1, TUNED, trained, TUNING)
    known = trained | {question.text for question in tuning}
    sets = {"tuning": tuning, "dev": fresh("train", 2, TUNED, known, DEVELOPMENT)}
    sets["quarter"] = random.Random(0).sample(tuning, TUNING // 4)  # noqa: S311  no secret depends on it
    sets["test"] = fresh("test", 7, TUNED, known, TEST * len(TUNED)) + fresh("test", 7, (HELD_OUT,), known, TEST)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, questions in sets.items():
        atomic.write_bytes(FOLDER / f"{name}.jsonl", "".join(map(question_row, questions)).encode())


if __name__ == "__main__":
    prepare()
