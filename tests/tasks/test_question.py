"""A set of questions: domains, description, and a digest of the content alone."""

import json
from dataclasses import replace

from turnout.tasks import Question, TaskSet

A = Question("1", "algebra", "maths", "1 + 1?", ("1", "2"), 1)
B = Question("2", "law", "other", "Who?", ("I", "you", "they"), None)
C = Question("3", "prose", "other", "Once upon a time", (), None)


def test_domains_follow_the_map_then_appearance():
    assert TaskSet.of("t", [A, B], order=["other", "none", "maths"]).domains == ("other", "maths")
    assert TaskSet.of("t", [A, B]).domains == ("maths", "other")
    assert TaskSet.of("t", [A, B], order=["other"]).domains == ("other", "maths")


def test_describe_is_json_and_lists_domains_of_one_sample():
    described = TaskSet.of("t", [A, B, C], domain_map="mine", dropped=["x: why"]).describe()
    assert json.loads(json.dumps(described)) == described
    assert described["domains"] == {"maths": 1, "other": 2}
    assert described["subjects"] == {"maths": 1, "other": 2}
    assert described["one_sample_domains"] == ["maths"]
    assert (described["questions"], described["with_answer"], described["text_rows"]) == (3, 1, 1)
    assert described["dropped"] == ["x: why"]


def test_without_a_domain():
    tasks = TaskSet.of("t", [A, B, C])
    left = tasks.without("maths")
    assert (left.questions, left.domains) == ((B, C), ("other",))
    assert left.digest == TaskSet.of("another name", [B, C]).digest != tasks.digest
    assert tasks.without("cooking") is tasks


def test_every_field_and_the_order_change_the_digest():
    base = TaskSet.of("t", [A, B]).digest
    changes = {"id": "9", "subject": "s", "domain": "d", "text": "t", "choices": ("1", "3"), "answer": 0}
    digests = {TaskSet.of("t", [replace(A, **{field: value}), B]).digest for field, value in changes.items()}
    assert len(digests | {base}) == len(changes) + 1
    assert TaskSet.of("t", [B, A]).digest != base
    assert TaskSet.of("other name", [A, B]).digest == base


def test_fields_cannot_run_into_each_other():
    one = TaskSet.of("t", [replace(A, text='x", "y', choices=("a", "b"))])
    two = TaskSet.of("t", [replace(A, text="x", choices=('y", "a', "b"))])
    assert one.digest != two.digest
