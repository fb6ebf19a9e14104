"""The experiment's questions, as PLAN.md draws them: runs/align/questions/{tuning,quarter,dev,test}.jsonl."""

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

from base import DOMAINS, QUESTIONS, SEED

from turnout.runs import atomic
from turnout.tasks import worlds
from turnout.tasks.question import Question

FOLDER = Path("runs/align/questions")
TUNED = tuple(name for name in DOMAINS if name != "logic")
HELD_OUT = "logic"
TUNING, DEVELOPMENT, TEST = 1000, 600, 400
_DRAWN = 40  # times as many are drawn as are kept: most of the train split was taught to the base


def fresh(split: str, seed: int, domains: Sequence[str], known: Iterable[str], n: int) -> list[Question]:
    """`n` questions of no text in `known`."""
    texts, found = set(known), []
    for question in worlds.questions(split, _DRAWN * n, seed, domains):
        if question.text not in texts:
            texts.add(question.text)
            found.append(question)
        if len(found) == n:
            return found
    raise SystemExit(f"{split}, seed {seed}: expected {n} fresh questions, got {len(found)}")


def prepare() -> None:
    """Draw and write them, once."""
    if (FOLDER / "test.jsonl").exists():
        return
    taught = {question.text for question in worlds.questions("train", QUESTIONS, SEED, DOMAINS)}
    tuning = fresh("train", 1, TUNED, taught, TUNING)
    known = taught | {question.text for question in tuning}
    sets = {"tuning": tuning, "dev": fresh("train", 2, TUNED, known, DEVELOPMENT)}
    sets["quarter"] = random.Random(0).sample(tuning, TUNING // 4)  # noqa: S311  no secret depends on it
    sets["test"] = fresh("test", 7, TUNED, known, TEST * len(TUNED)) + fresh("test", 7, (HELD_OUT,), known, TEST)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, asked in sets.items():
        atomic.write_bytes(FOLDER / f"{name}.jsonl", "".join(map(_row, asked)).encode())


def _row(question: Question) -> str:
    row = {"question": question.text, "choices": question.choices, "answer": question.answer}
    return json.dumps(row | {"subject": question.subject, "domain": question.domain}) + "\n"


if __name__ == "__main__":
    prepare()
