"""Load open-ended exercises by name or from a file, for `turnout vote` and `turnout grpo`."""

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from turnout.errors import MissingExtraError, TaskError
from turnout.tasks.exercises.exercise import Exercise, Kind, read_gold
from turnout.tasks.exercises.generated import chains, facts
from turnout.tasks.worlds.problem import Split, split_of

_CHAINS = re.compile(r"chains-(\d+(?:\+\d+)*)")
_FORMS = "chains-2, chains-1+3, facts-500, gym-NAME, or a JSONL file of prompts and answers"


def load_exercises(spec: str | Path, n: int, split: Split | None = None, seed: int = 0) -> list[Exercise]:
    """Load at most `n` exercises.

    Args:
        spec: "chains-2" or "chains-1+3" (operations), "facts-500" (of a world with that many), "gym-NAME" (a task of
            the package reasoning-gym), or a JSONL file whose rows have `prompt` and `answer` (strings; see
            `read_gold`).
        n: the largest number of exercises.
        split: "train" or "test". Chains and a file's rows are split by digest, a quarter of them test, without overlap.
            Gym tasks of the two splits have different seeds and may repeat a problem. Facts have no splits, since they
            are memorized. None: the test split of generated exercises, and all of a file.
        seed: seed of the random choices.

    Raises:
        TaskError: an unknown name, a missing or malformed file (with the row), no exercise.
        MissingExtraError: reasoning-gym is not installed.
    """
    exercises = list(islice(_read(str(spec), n, split, seed), n))
    if not exercises:
        raise TaskError(spec, expected="at least one exercise", received="none")
    return exercises


def _read(spec: str, n: int, split: Split | None, seed: int) -> Iterator[Exercise]:
    if levels := _CHAINS.fullmatch(spec):
        return chains(split or "test", n, [int(level) for level in levels[1].split("+")], seed)
    if spec.startswith("facts-") and spec[6:].isdigit():
        return facts(int(spec[6:]), seed)
    if spec.startswith("gym-"):
        return _gym(spec[4:], n, seed + 1_000_000 if split == "train" else seed)
    if Path(spec).is_file():
        rows = _file(Path(spec))
        return rows if split is None else (one for one in rows if split_of(f"file:{one.prompt}") == split)
    raise TaskError(spec, expected=_FORMS, received="no such name or file")


def _gym(name: str, n: int, seed: int) -> Iterator[Exercise]:
    try:
        import reasoning_gym
    except ModuleNotFoundError as error:
        do = "pip install reasoning-gym"
        raise MissingExtraError(f"gym-{name}", expected="the package reasoning-gym", received="none", do=do) from error
    try:
        dataset = reasoning_gym.create_dataset(name, size=n, seed=seed)
    except ValueError as error:
        raise TaskError(f"gym-{name}", expected="a task of reasoning-gym", received=name) from error
    for i, entry in enumerate(dataset):
        answer = str(entry["answer"])
        kind, gold = _gold(f"gym-{name}, problem {i}", answer)
        yield Exercise(f"{name}-{seed}-{i}", kind, 0, f"Question: {entry['question']}\nAnswer:", answer, gold)


def _file(path: Path) -> Iterator[Exercise]:
    try:
        lines = path.read_bytes().decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise TaskError(path, expected="text in UTF-8", received=error) from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, row {number}"
        try:
            row = json.loads(line)
            prompt, answer = row["prompt"], row["answer"]
        except (ValueError, KeyError, TypeError):
            prompt = answer = None
        if not isinstance(prompt, str) or not isinstance(answer, str) or not prompt.strip():
            raise TaskError(where, expected='an object with strings "prompt" and "answer"', received=line)
        kind, gold = _gold(where, answer)
        yield Exercise(f"{path.stem}-{number}", kind, 0, prompt, answer, gold)


def _gold(where: str, answer: str) -> tuple[Kind, str]:
    try:
        return read_gold(answer)
    except ValueError as error:
        raise TaskError(where, expected=str(error), received=answer) from error
