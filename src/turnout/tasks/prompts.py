"""Prompts: a question as plain text and as token ids, with shots, a chat template, and answer-letter tokens.

Zero-shot by default (arXiv 2601.03425): the routing is recorded at the prompt's last token, so nothing follows
"Answer:" but a chat template's own text. The tokenizer is an argument; this file imports neither torch nor
transformers.
"""

from collections.abc import Sequence
from itertools import islice
from string import ascii_uppercase
from typing import Any

from turnout.errors import TaskError
from turnout.tasks.question import Question

MAX_CHOICES = len(ascii_uppercase)


def plain_prompt(question: Question, shots: Sequence[Question] = ()) -> str:
    r"""The prompt as plain text.

    A question is ``Question: …\nChoices:\nA. …\nB. …\nAnswer:``; each shot is the same followed by `` A\n\n``. A text
    row is its text, without shots.

    Raises:
        TaskError: a shot without choices or without an answer.

    >>> plain_prompt(Question("1", "sums", "maths", "1 + 1?", ("2", "3"), 0))
    'Question: 1 + 1?\nChoices:\nA. 2\nB. 3\nAnswer:'
    """
    if not question.choices:
        return question.text
    return "".join(_with_answer(shot) for shot in shots) + _without_answer(question)


def choose_shots(question: Question, dev: Sequence[Question], n: int) -> tuple[Question, ...]:
    """The first `n` questions of `dev` with this question's subject and an answer, without the question itself.

    Raises:
        TaskError: `dev` has fewer than `n` of them.
    """
    content = (question.text, question.choices)
    solved = (q for q in dev if q.subject == question.subject and q.choices and q.answer is not None)
    shots = tuple(islice((q for q in solved if (q.text, q.choices) != content), n))
    if len(shots) < n:
        raise TaskError(
            question.named,
            expected=f"{n} solved examples of its subject {question.subject!r}",
            received=len(shots),
            do="use fewer shots or pass a larger dev split",
        )
    return shots


def encode(
    tokenizer: Any, question: Question, *, shots: Sequence[Question] = (), max_length: int | None = None
) -> list[int]:
    """The prompt's token ids, [T].

    Where the tokenizer has a chat template a question is one user turn (shots inside it, as plain text) with the
    generation prompt added and no special tokens after that. Otherwise, and for text rows always, it is the plain
    prompt with the tokenizer's leading special tokens; an end token that the tokenizer appends is left out.

    Args:
        tokenizer: a transformers tokenizer.
        question: the question.
        shots: solved examples before it.
        max_length: the model's context in tokens; None for no limit.

    Raises:
        TaskError: the prompt is longer than `max_length`, or empty.
    """
    plain = plain_prompt(question, shots)
    if question.choices and getattr(tokenizer, "chat_template", None):
        turn = [{"role": "user", "content": plain}]
        plain = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(plain, add_special_tokens=False, verbose=False)["input_ids"]
    else:
        ids = encode_text(tokenizer, plain)
    _check_length(question, len(ids), max_length)
    return [int(i) for i in ids]


def encode_text(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text after the tokenizer's leading special tokens; nothing follows the text.

    A tokenizer may append an end token. Routing would then be read at it, and generation would continue after it.
    """
    plain = list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
    whole = list(tokenizer(text, verbose=False)["input_ids"])
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return whole[: start + len(plain)]
    special = set(tokenizer.all_special_ids)
    while whole and whole[-1] in special:
        whole.pop()
    return whole


def encode_continuation(tokenizer: Any, prompt: str, continuation: str) -> tuple[list[int], list[int]]:
    """Token ids of a prompt and of a continuation of it, encoded as one text.

    A continuation encoded alone can begin with other tokens than in context: a SentencePiece tokenizer puts a space
    before every text. The second list starts at the first token that the prompt alone does not have.

    Raises:
        TaskError: an empty prompt.
    """
    alone, whole = encode_text(tokenizer, prompt), encode_text(tokenizer, prompt + continuation)
    shared = 0
    while shared < min(len(alone), len(whole)) and alone[shared] == whole[shared]:
        shared += 1
    if shared == 0:
        raise TaskError("prompt", expected="a prompt of at least one token", received=repr(prompt))
    return whole[:shared], whole[shared:]


def letter_ids(tokenizer: Any, n: int) -> list[int]:
    """Token ids of the first `n` answer letters, with a space (" A") if each is then one token, else without ("A").

    All letters have the same form: log-probabilities of " A" and "B" cannot be compared.

    Raises:
        TaskError: `n` is not 2 to 26, or the tokenizer has no single token for a letter in either form.
    """
    if not 2 <= n <= MAX_CHOICES:
        raise TaskError("choices", expected=f"2 to {MAX_CHOICES} of them", received=n)
    for form in (" {}", "{}"):
        ids = [_single_token(tokenizer, form.format(letter)) for letter in ascii_uppercase[:n]]
        single = [i for i in ids if i is not None]
        if len(set(single)) == n:
            return single
    raise TaskError(
        "tokenizer",
        expected=f"one token of its own for each answer letter A to {ascii_uppercase[n - 1]}",
        received="letters that are split, merged or unknown",
        do="audit without --answers",
    )


def _without_answer(question: Question) -> str:
    listed = "".join(f"{letter}. {choice}\n" for letter, choice in zip(ascii_uppercase, question.choices, strict=False))
    return f"Question: {question.text}\nChoices:\n{listed}Answer:"


def _with_answer(shot: Question) -> str:
    if not shot.choices or shot.answer is None:
        raise TaskError(f"shot {shot.id}", expected="choices and an answer", received="a row that lacks one of them")
    return f"{_without_answer(shot)} {ascii_uppercase[shot.answer]}\n\n"


def _single_token(tokenizer: Any, text: str) -> int | None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return int(ids[0]) if len(ids) == 1 and ids[0] != getattr(tokenizer, "unk_token_id", None) else None


def _check_length(question: Question, length: int, max_length: int | None) -> None:
    if length == 0:
        raise TaskError(question.named, expected="a prompt of at least one token", received="none")
    if max_length is not None and length > max_length:
        raise TaskError(
            question.named,
            expected=f"a prompt of at most {max_length} tokens, the model's context",
            received=f"{length} tokens",
            do="shorten or drop it, use fewer shots, or use a model with a longer context",
        )
