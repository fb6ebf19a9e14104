"""Short questions, no two of the same text."""

from dataclasses import replace

from auditing.tiny_tasks import task_set

from turnout.tasks.question import TaskSet


def unlike(n, tag="", longest=4):
    """`n` questions in three domains; those of another `tag` have other texts."""
    asked = task_set(n, longest=longest).questions
    return TaskSet.of(
        f"asked {tag}", [replace(q, id=f"{tag}{i}", text=f"{q.text} {tag}{i}") for i, q in enumerate(asked)]
    )
