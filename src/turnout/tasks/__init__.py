"""Questions with subject, domain, choices and answer: sources, domain maps, prompts; generated worlds and exercises."""

from turnout.tasks.domains import MAPS, DomainMap, load_map
from turnout.tasks.load import NAMES, load_tasks
from turnout.tasks.prompts import choose_shots, encode, letter_ids, plain_prompt
from turnout.tasks.question import Question, TaskSet

__all__ = [
    "MAPS",
    "NAMES",
    "DomainMap",
    "Question",
    "TaskSet",
    "choose_shots",
    "encode",
    "letter_ids",
    "load_map",
    "load_tasks",
    "plain_prompt",
]
