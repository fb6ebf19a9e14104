"""Facts and chains: reproducible, solvable, with disjoint splits; final answers parsed from a model's output."""

from collections import Counter
from itertools import islice

import pytest

from turnout.errors import TaskError
from turnout.tasks.exercises import VOCABULARY, chains, facts, parse_answer
from turnout.tasks.exercises.exercise import read_gold
from turnout.tasks.exercises.generated import MAX_FACTS


def test_every_word_is_in_the_vocabulary():
    known = set(VOCABULARY)
    for exercise in [*facts(300), *chains("train", 300, (1, 3, 6))]:
        assert set(exercise.text.split()) <= known


def test_names_occur_once_and_values_evenly():
    many = list(facts(20_000, seed=1))
    assert len({exercise.prompt for exercise in many}) == 20_000
    counts = Counter(exercise.answer for exercise in many)
    assert len(counts) == 479
    assert max(counts.values()) < 80  # 42 expected


def test_a_fact_does_not_depend_on_the_number_of_facts():
    assert list(facts(5, seed=3)) == list(islice(facts(500, seed=3), 5))
    assert [f.answer for f in facts(50, seed=3)] != [f.answer for f in facts(50, seed=4)]


def solve(prompt):
    """The last value, and the expected text of the steps."""
    words = prompt.split()
    value, written = int(words[1]), words[1]
    for at in range(2, len(words) - 1, 2):
        by = int(words[at + 1])
        value = {"add": value + by, "sub": value - by, "mul": value * by}[words[at]] % 23
        written += f" {words[at]} {by} is {value}"
    return str(value), written


@pytest.mark.parametrize("split", ["train", "test"])
def test_chains_are_correct(split):
    for exercise in chains(split, 600, (1, 2, 5)):
        value, written = solve(exercise.prompt)
        assert written.count("is") == exercise.level
        assert exercise.solution == f"{written} . {value} ."
        assert parse_answer(exercise.solution, "reasoning") == exercise.answer == value


def test_small_operands_are_more_frequent():
    counts = Counter(int(e.prompt.split()[-2]) for e in chains("train", 20_000, (4,)))
    expected = {k: 20_000 * sum(1 / m for m in range(k, 23)) / 22 for k in range(1, 23)}
    assert set(counts) == set(expected)
    for k, count in expected.items():
        assert abs(counts[k] - count) < 5 * (count**0.5 + 1)


def test_no_test_problem_occurs_in_train():
    train = {e.prompt for seed in range(3) for e in chains("train", 4000, (1, 2), seed)}
    test = {e.prompt for seed in range(3) for e in chains("test", 1000, (1, 2), seed)}
    assert not train & test
    assert len(test) > 500


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        ("5 add 8 is 13 . 13 .", "13"),
        ("so it is 70,000.", "70000"),
        ("The answer is -7", "-7"),
        ("3.50 euros", "3.5"),
        ("007", "7"),
        ("it is −4.", "-4"),
        ("-0", "0"),
        ("3.0", "3"),
        ("1,234,567.80", "1234567.8"),
        ("either 3,5", "5"),
        ("about .5", "0.5"),
        ("x = -.50", "-0.5"),
        ("pages 3-5", "5"),
        ("2026-11-22", "22"),
        ("5 -3", "-3"),
        ("v.5", "5"),
        ("no idea", None),
        ("", None),
    ],
)
def test_final_numbers(output, answer):
    assert parse_answer(output, "reasoning") == answer


def test_a_fact_is_the_first_word():
    assert parse_answer(" tavi . kelo", "recall") == "tavi"
    assert parse_answer("  ", "recall") is None


@pytest.mark.parametrize(
    ("gold", "kind", "answer"),
    [
        ("18", "reasoning", "18"),
        ("$70,000.", "reasoning", "70000"),
        ("3 + 4 = 7 apples\nso there are 7\n#### 7", "reasoning", "7"),
        ("1/2", "text", "1/2"),
        ("New  York", "text", "new york"),
        ("yes", "text", "yes"),
        ("Henry the 8th of England", "text", "henry the 8th of england"),
    ],
)
def test_a_gold_answer_determines_the_kind(gold, kind, answer):
    assert read_gold(gold) == (kind, answer)
    assert parse_answer(gold.rpartition("####")[2], kind) == answer


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        ("\n Paris. \nWhat next?", "paris"),
        ("PARIS", "paris"),
        ("3/2", "3/2"),
        ("New Jersey", "new jersey"),
        (" .", None),
    ],
)
def test_text_is_the_first_line(output, answer):
    assert parse_answer(output, "text") == answer


@pytest.mark.parametrize("gold", ["", " . ", "one\ntwo"])
def test_a_gold_answer_has_one_line(gold):
    with pytest.raises(ValueError, match="one line"):
        read_gold(gold)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: list(facts(MAX_FACTS + 1)), f"^facts: .* {MAX_FACTS + 1}"),
        (lambda: list(facts(-1)), "^facts: .* -1"),
        (lambda: list(chains("dev", 1, (1,))), "^chains: .* dev"),
        (lambda: list(chains("train", 1, ())), r"^chains: .* \[\]"),
        (lambda: list(chains("train", 1, (0,))), r"^chains: .* \[0\]"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(TaskError, match=message):
        make()
