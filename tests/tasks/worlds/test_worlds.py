"""The generated world: reproducible, split by content, balanced, and recall known from statements alone."""

import itertools
import subprocess
import sys
import time
from collections import Counter

import pytest

from turnout.errors import TaskError
from turnout.tasks import worlds
from turnout.tasks.worlds.facts import MAX_PEOPLE, MAX_PLACES, world
from turnout.tasks.worlds.problem import Draw, near

RECALL = [name for name, kind in worlds.KINDS.items() if kind == "recall"]
REASONING = [name for name, kind in worlds.KINDS.items() if kind == "reasoning"]


def questions(split="test", n=900, **options):
    return list(worlds.questions(split, n, **options))


def test_nine_domains_with_ten_subjects_or_more():
    assert len(worlds.DOMAINS) == 9
    subjects = {q.subject for q in questions(n=9 * 20)}
    assert min(Counter(s.split("/")[0] for s in subjects).values()) >= 10


def test_item_i_does_not_depend_on_the_number_of_items():
    assert questions(n=50) == questions(n=900)[:50]
    alone = questions(n=20, domains=["logic"])
    assert alone == [q for q in questions(n=180) if q.domain == "logic"]
    few, many = (list(worlds.statements("train", n)) for n in (40, 400))
    assert few == many[:40]


def test_seed_and_split_change_the_questions():
    assert questions(seed=0) == questions(seed=0) != questions(seed=1)
    assert not {q.id for q in questions(seed=0)} & {q.id for q in questions(seed=1)}
    assert list(worlds.statements("train", 20, seed=1)) != list(worlds.statements("train", 20))


def test_the_same_in_another_process():
    code = (
        "import hashlib; from turnout.tasks import worlds; h = hashlib.sha256();"
        "[h.update(repr(q).encode()) for q in worlds.questions('test', 900)];"
        "[h.update(s.encode()) for s in worlds.statements('train', 900)]; print(h.hexdigest())"
    )
    run = [
        subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True) for seed in "12"
    ]
    assert run[0].stdout == run[1].stdout
    assert len(run[0].stdout) == 65


def test_four_different_choices_and_a_uniform_answer():
    drawn = questions(n=9000)
    assert all(len(q.choices) == len(set(q.choices)) == 4 for q in drawn)
    assert len({q.id for q in drawn}) == 9000
    for domain in worlds.DOMAINS:
        counts = Counter(q.answer for q in drawn if q.domain == domain)
        chi2 = sum((counts[i] - 250) ** 2 / 250 for i in range(4))
        assert chi2 < 16.3, (domain, counts)  # 3 degrees of freedom, one in a thousand


@pytest.mark.parametrize("domain", ["units", "calendar", "sequences", "code"])
def test_the_right_number_has_any_rank_among_the_choices(domain):
    ranks = Counter()
    for q in questions(n=4000, domains=[domain]):
        if all(c.isdigit() for c in q.choices):
            values = [int(c) for c in q.choices]
            ranks[sorted(values).index(values[q.answer])] += 1
    assert max(ranks.values()) < 0.36 * ranks.total(), ranks


@pytest.mark.parametrize("domain", REASONING)
def test_no_problem_is_in_both_splits(domain):
    """For any seeds neither questions nor statements of train contain a test problem."""
    train = {q.text for seed in range(2) for q in questions("train", 2000, seed=seed, domains=[domain])}
    test = {q.text for q in questions("test", 1000, seed=7, domains=[domain])}
    assert not train & test
    texts = list(worlds.statements("train", 1000, domains=[domain]))
    assert not [text for text in texts if any(text.startswith((q + " ", q + "\n")) for q in test)]


def test_depth_one_chains_that_commute_share_a_split():
    from turnout.tasks.worlds.arithmetic import ARITHMETIC

    keys = {s: {ARITHMETIC.problem(s, "sums-1", Draw(s, i)).key for i in range(1500)} for s in ("train", "test")}
    assert not keys["train"] & keys["test"]
    assert "3+5" in keys["train"] | keys["test"]
    assert "5+3" not in keys["train"] | keys["test"]


@pytest.mark.parametrize("domain", RECALL)
def test_recall_differs_in_wording_only(domain):
    train, test = questions("train", 3000, domains=[domain]), questions("test", 3000, domains=[domain])
    assert not {q.text for q in train} & {q.text for q in test}
    known = {
        "people": {p.name: p.facts for p in world(1000, 200).people},
        "places": {p.name: p.facts for p in world(1000, 200).places},
    }[domain]
    for q in train + test:
        attribute, wanted = q.subject.split("/")[1].split("-")
        right = q.choices[q.answer]
        if wanted == "value":
            name = next(n for n in known if n in q.text)
            assert known[name][attribute] == right
        else:
            value = known[right][attribute]
            assert value in q.text
            assert [c for c in q.choices if known[c][attribute] == value] == [right]


@pytest.mark.parametrize(("domain", "entities"), [("people", 300), ("places", 100)])
def test_statements_contain_every_fact(domain, entities):
    facts = getattr(world(300, 100), domain)
    for split in ("train", "test"):
        texts = list(worlds.statements(split, entities, domains=[domain], people=300, places=100))
        for entity, text in zip(facts, texts, strict=True):
            assert entity.name in text
            assert all(value in text for value in entity.facts.values())


def test_four_of_thirteen_statements_are_about_people():
    texts = list(worlds.statements("train", 13 * 10))
    names = {p.name for p in world(1000, 200).people}
    assert sum(any(n in text for n in names) for text in texts) == 40


def test_names_are_unique_at_the_largest_size():
    w = world(MAX_PEOPLE, MAX_PLACES)
    assert len({p.name for p in w.people}) == MAX_PEOPLE
    assert len({p.name for p in w.places}) == MAX_PLACES
    assert w.people[:10] != world(1000, 200).people[:10]  # they live in more towns
    assert [p.name for p in w.people[:10]] == [p.name for p in world(1000, 200).people[:10]]


def test_statements_are_generated_lazily_and_fast():
    endless = worlds.statements("train", 10**12)
    start = time.perf_counter()
    assert len(list(itertools.islice(endless, 20_000))) == 20_000
    assert time.perf_counter() - start < 10


def test_near_keeps_its_bounds():
    for i in range(200):
        values = [int(v) for v in near(Draw(i), 2, low=1)]
        assert len(set(values)) == 3
        assert min(values) >= 1
        assert 2 not in values


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"split": "dev"}, "the split train or test"),
        ({"n": -1}, "at least 0"),
        ({"domains": ["people", "cooking"]}, "cooking"),
        ({"domains": []}, "none"),
        ({"people": 5}, "100 to 32768"),
        ({"places": 5000}, "50 to 512"),
    ],
)
@pytest.mark.parametrize("make", [worlds.questions, worlds.statements])
def test_bad_arguments_are_refused_at_once(make, wrong, message):
    with pytest.raises(TaskError, match=message):
        make(**{"split": "train", "n": 5} | wrong)
