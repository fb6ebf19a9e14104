"""Open-ended exercises by name or from a file: what `turnout vote` and `turnout grpo` ask."""

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from turnout.errors import MissingExtraError, TaskError
from turnout.tasks.exercises.chains import chains
from turnout.tasks.exercises.exercise import Exercise, Kind, parse_answer
from turnout.tasks.exercises.facts import facts

_CHAINS = re.compile(r"chains-(\d+(?:\+\d+)*)")
_FORMS = "chains-2, chains-1+3, facts-500, gym-NAME, or a JSONL file of prompts and answers"


def load_exercises(spec: str | Path, n: int, split: str = "test", seed: int = 0) -> list[Exercise]:
    """`n` exercises, fewer where there are not so many.

    Args:
        spec: "chains-2" or "chains-1+3" (operations), "facts-500" (of a world of so many), "gym-NAME" (a task of the
            package reasoning-gym), or a JSONL file whose rows have `prompt` and `answer` (strings).
        n: how many at most.
        split: "train" or "test"; facts and files have no splits.
        seed: of the draw.

    Raises:
        TaskError: an unknown name, a missing or malformed file (with its row), no exercise.
        MissingExtraError: reasoning-gym is not installed.
    """
    found = list(islice(_read(str(spec), n, split, seed), n))
    if not found:
        raise TaskError(spec, expected="at least one exercise", came="none")
    return found


def _read(spec: str, n: int, split: str, seed: int) -> Iterator[Exercise]:
    if levels := _CHAINS.fullmatch(spec):
        return chains(split, n, [int(level) for level in levels[1].split("+")], seed)
    if spec.startswith("facts-") and spec[6:].isdigit():
        return facts(int(spec[6:]), seed)
    if spec.startswith("gym-"):
        return _gym(spec[4:], n, seed if split == "test" else seed + 1_000_000)
    if Path(spec).is_file():
        return _file(Path(spec))
    raise TaskError(spec, expected=_FORMS, came="neither such a name nor a file")


def _gym(name: str, n: int, seed: int) -> Iterator[Exercise]:
    try:
        import reasoning_gym
    except ModuleNotFoundError as error:
        do = "pip install reasoning-gym"
        raise MissingExtraError(f"gym-{name}", expected="the package reasoning-gym", came="none", do=do) from error
    try:
        made = reasoning_gym.create_dataset(name, size=n, seed=seed)
    except ValueError as error:
        raise TaskError(f"gym-{name}", expected="a task of reasoning-gym", came=name) from error
    for i, entry in enumerate(made):
        answer = str(entry["answer"])
        wanted = parse_answer(answer, "reasoning") or answer
        yield Exercise(f"{name}-{seed}-{i}", "reasoning", 0, f"Question: {entry['question']}\nAnswer:", answer, wanted)


def _file(path: Path) -> Iterator[Exercise]:
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            prompt, answer = row["prompt"], row["answer"]
        except (ValueError, KeyError, TypeError):
            prompt = answer = None
        if not isinstance(prompt, str) or not isinstance(answer, str) or not answer.strip():
            raise TaskError(f"{path}, row {number}", expected='an object with strings "prompt" and "answer"', came=line)
        numeric = parse_answer(answer, "reasoning")
        kind: Kind = "reasoning" if numeric is not None else "recall"
        yield Exercise(f"{path.stem}-{number}", kind, 0, prompt, answer, numeric or answer.split()[0])
