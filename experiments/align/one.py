"""One alignment of the experiment, given as JSON; run.py calls it."""

import json
import random
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from base import DOMAINS, OUT, QUESTIONS, SEED

from turnout.aligning import align
from turnout.runs import atomic
from turnout.tasks import TaskSet, worlds
from turnout.tasks.question import Question

RUNS = Path("runs/align")
TUNED = tuple(name for name in DOMAINS if name != "logic")
HELD_OUT = "logic"
TUNING, DEVELOPMENT, TEST = 1000, 600, 400


def fresh(split: str, seed: int, domains: Sequence[str], known: Iterable[str], n: int) -> list[Question]:
    """`n` questions of no text in `known`."""
    texts, found = set(known), []
    for question in worlds.questions(split, 40 * n, seed, domains):
        if question.text not in texts:
            texts.add(question.text)
            found.append(question)
        if len(found) == n:
            return found
    raise SystemExit(f"{split}, seed {seed}: expected {n} fresh questions, got {len(found)}")


def questions(on: str, share: float) -> tuple[TaskSet, TaskSet]:
    """Tuning questions, and development or test questions."""
    taught = {question.text for question in worlds.questions("train", QUESTIONS, SEED, DOMAINS)}
    tuning = fresh("train", 1, TUNED, taught, TUNING)
    known = taught | {question.text for question in tuning}
    if on == "dev":
        asked = fresh("train", 2, TUNED, known, DEVELOPMENT)
    else:
        asked = fresh("test", 7, TUNED, known, TEST * len(TUNED)) + fresh("test", 7, (HELD_OUT,), known, TEST)
    if share < 1:
        tuning = random.Random(0).sample(tuning, round(share * len(tuning)))  # noqa: S311  no secret depends on it
    return TaskSet.of("tuning", tuning), TaskSet.of(on, asked)


def main(job: dict[str, Any]) -> None:
    """Align, and write which questions were right."""
    torch.set_num_threads(1)
    tuning, asked = questions(job["on"], job.get("share", 1.0))
    options = job["options"] | {"method": job["method"], "seed": job["seed"]}
    found = align(OUT, tuning, asked, RUNS / "runs" / job["name"], **options)
    answers = found.table("answers")
    content = {**job, "found": found.to_dict(), "answers": answers.to_dict(as_series=False)}
    overall = found.accuracy["overall"] if found.accuracy else {}
    content["right"] = overall.get("after")
    atomic.write_bytes(RUNS / "results" / f"{job['name']}.json", json.dumps(content, default=str).encode())


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
