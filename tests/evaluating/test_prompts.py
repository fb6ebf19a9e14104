"""Prompts equal the harness's inputs to the model, recorded while it runs."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from turnout.errors import TaskError
from turnout.evaluating.config import EvaluateConfig
from turnout.evaluating.harness import language_model
from turnout.evaluating.prompts import prompts


@pytest.fixture(scope="module")
def lm(moe):
    return language_model(moe, EvaluateConfig(batch_size=2))


@contextmanager
def watched(moe) -> Iterator[list[list[int]]]:
    """Record the rows of token ids that the model gets, without padding where there is a mask."""
    rows: list[list[int]] = []

    def note(model, args, kwargs):
        ids, mask = kwargs.get("input_ids", args[0] if args else None), kwargs.get("attention_mask")
        for row, real in zip(ids, torch.ones_like(ids) if mask is None else mask, strict=True):
            if len(row) == len(real):  # not a single step of generation
                rows.append(row[real.bool()].tolist())

    handle = moe.model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield rows
    finally:
        handle.remove()


def asked(kind: str, *requests: tuple):
    from lm_eval.api.instance import Instance

    return [Instance(request_type=kind, doc={}, arguments=r, idx=i) for i, r in enumerate(requests)]


def texts(lm, requests: list[tuple]) -> list[tuple[str, list[int]]]:
    """Text and tokens of the prompts of one document with these requests."""
    return [(prompt.text, prompt.tokens) for prompt in prompts(lm, {"x": [{"doc_id": 0, "arguments": requests}]})]


def begins(rows: list[list[int]], tokens: list[int]) -> bool:
    return any(row[: len(tokens)] == tokens for row in rows)


@pytest.mark.parametrize("length", [5, 505, 900])
def test_a_context_is_read_once_and_as_far_as_the_harness_reads_it(moe, lm, length):
    context = "".join(chr(97 + i % 26) for i in range(length))
    requests = [(context, " yes"), (context, " no"), (context, " p")]
    with watched(moe) as rows:
        lm.loglikelihood(asked("loglikelihood", *requests), disable_tqdm=True)
    ((text, tokens),) = texts(lm, requests)
    assert text == context
    assert begins(rows, tokens)
    assert moe.tokenizer.decode(tokens) == context[-len(tokens) :]
    assert len(tokens) == min(length, lm.max_length - 3)  # of " yes" all but the last token are read too


def test_spaces_that_the_harness_moves_to_the_answer_are_not_in_the_prompt(moe, lm):
    requests = [("two and two is ", "four")]
    with watched(moe) as rows:
        lm.loglikelihood(asked("loglikelihood", *requests), disable_tqdm=True)
    ((_, tokens),) = texts(lm, requests)
    assert begins(rows, tokens)
    assert moe.tokenizer.decode(tokens) == "two and two is"


def test_each_context_of_a_document_is_a_prompt(lm):
    requests = [("Ann sat as Ann", " was tired"), ("Ann sat as Eve", " was tired"), ("Ann sat as Ann", " fell")]
    assert [text for text, _ in texts(lm, requests)] == ["Ann sat as Ann", "Ann sat as Eve"]


def test_an_unconditional_score_beside_a_context_is_not_a_prompt(lm):
    assert [text for text, _ in texts(lm, [("Q", " a"), ("", " a")])] == ["Q"]


def test_without_context_the_scored_text_is_the_prompt(moe, lm):
    requests = [("", "The cat sits."), ("", "The cat sit.")]
    with watched(moe) as rows:
        lm.loglikelihood(asked("loglikelihood", *requests), disable_tqdm=True)
    found = texts(lm, requests)
    assert [text for text, _ in found] == ["The cat sits.", "The cat sit."]
    assert all(begins(rows, tokens) and len(tokens) == len(text) for text, tokens in found)  # prefix, all but the last


def test_a_long_text_is_split_into_windows(moe, lm):
    text = "".join(chr(97 + i % 26) for i in range(1300))
    with watched(moe) as rows:
        lm.loglikelihood_rolling(asked("loglikelihood_rolling", (text,)), disable_tqdm=True)
    found = texts(lm, [(text,)])
    assert len(found) == 3
    assert all(begins(rows, tokens) for _, tokens in found)


@pytest.mark.parametrize("length", [5, 700])
def test_a_generation_leaves_room_for_its_answer(moe, lm, length):
    context, settings = "x" * (length - 1) + "y", {"until": ["\n"], "max_gen_toks": 3, "do_sample": False}
    other = "z" * 600  # the shorter prompt is padded on the left
    with watched(moe) as rows:
        lm.generate_until(asked("generate_until", (context, settings), (other, settings)), disable_tqdm=True)
    ((_, tokens),) = texts(lm, [(context, settings)])
    assert tokens in rows
    assert len(tokens) == min(length, lm.max_length - 3)


def test_requests_other_than_text_are_refused(lm):
    with pytest.raises(TaskError, match="requests of text"):
        texts(lm, [("look", " a", ["image"])])


def test_filters_do_not_duplicate_a_document(lm):
    logged = [{"doc_id": i, "arguments": [(f"Q{i}", " a")], "filter": f} for f in ("strict", "loose") for i in (1, 0)]
    assert [(p.id, p.document, p.text) for p in prompts(lm, {"t": logged})] == [("t/0", 0, "Q0"), ("t/1", 1, "Q1")]
