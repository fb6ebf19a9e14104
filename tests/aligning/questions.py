"""Short questions, each with a text of its own."""

from dataclasses import replace

from auditing.tiny_tasks import task_set

from turnout.tasks.question import TaskSet


def distinct_questions(n, tag="", longest=4):
    """`n` questions in three domains; those of another `tag` have other texts."""
    questions = task_set(n, longest=longest).questions
    return TaskSet.of(
        f"questions {tag}", [replace(q, id=f"{tag}{i}", text=f"{q.text} {tag}{i}") for i, q in enumerate(questions)]
    )
