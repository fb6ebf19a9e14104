"""What the model read of each document, in the token ids that lm-evaluation-harness gave it.

A document's requests share one context, which is read once: a question with four answers counts as one prompt, not as
four. Where a document has several contexts (one for each choice, as in WinoGrande), each is a prompt. Where it has none
(perplexity, minimal pairs), the text that was scored is the prompt.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from turnout.errors import TaskError


@dataclass(frozen=True)
class Prompt:
    """One prompt: the task and document that it belongs to, its text, and its token ids without padding."""

    id: str
    task: str
    document: int
    text: str
    tokens: list[int]


def prompts(lm: Any, samples: dict[str, Sequence[dict[str, Any]]]) -> list[Prompt]:
    """Every document's prompts, task by task in the order of `samples`, then by document.

    Args:
        lm: the harness's `HFLM` that ran them: its tokenizer settings and truncation are used.
        samples: the `samples` of the harness's results: {task: its documents, once for each of the task's filters}.

    Raises:
        TaskError: a request of a kind that is not text.
    """
    collected = []
    for task, logged in samples.items():
        requests = {sample["doc_id"]: sample["arguments"] for sample in logged}  # the same under every filter
        for document in sorted(requests):
            texts = _texts(lm, requests[document], f"{task}/{document}")
            for n, (text, tokens) in enumerate(texts):
                name = f"{task}/{document}" + (f"#{n}" if n else "")
                collected.append(Prompt(name, task, document, text, tokens))
    return collected


def _texts(lm: Any, requests: Sequence[tuple[Any, ...]], where: str) -> list[tuple[str, list[int]]]:
    """The distinct prompts of one document's requests, text and tokens, in the order of the requests."""
    contexts: dict[str, list[int]] = {}
    scored: dict[tuple[str, int], list[int]] = {}
    for request in requests:
        match request:
            case (str(text),):
                scored |= {(text, n): ids for n, ids in enumerate(_windows(lm, text))}
            case (str(context), dict(settings)):
                contexts.setdefault(context, _generation_prompt(lm, context, settings))
            case ("", str(text)):
                scored[text, 0] = _scored(lm, *_encode("", text, lm))
            case (str(context), str(continuation)):
                if context not in contexts:
                    contexts[context] = _context(lm, *_encode(context, continuation, lm))
            case _:
                raise TaskError(
                    where, expected="requests of text", received=", ".join(type(r).__name__ for r in request)
                )
    return list(contexts.items()) or [(text, ids) for (text, _), ids in scored.items()]


def _encode(context: str, continuation: str, lm: Any) -> tuple[list[int], list[int]]:
    """A request's token ids as `TemplateLM.loglikelihood` makes them; an empty context is the prefix token."""
    if context:
        return lm._encode_pair(context, continuation)
    ids = lm.tok_encode(continuation, add_special_tokens=False)
    return (ids[:1], ids[1:]) if ids[0] == lm.prefix_token_id else ([lm.prefix_token_id], ids)


def _scored(lm: Any, context: list[int], continuation: list[int]) -> list[int]:
    """What the model reads to score a continuation: everything but the last token, cut on the left if too long."""
    return (context + continuation)[-(lm.max_length + 1) :][:-1]


def _context(lm: Any, context: list[int], continuation: list[int]) -> list[int]:
    """The context's part of it, up to the token that predicts the continuation's first."""
    read = _scored(lm, context, continuation)
    return read[: len(read) - len(continuation) + 1]


def _generation_prompt(lm: Any, context: str, settings: dict[str, Any]) -> list[int]:
    """What `HFLM.generate_until` reads before it generates: room for the longest answer is kept on the right."""
    from lm_eval.models.utils import normalize_gen_kwargs

    room = normalize_gen_kwargs(dict(settings), lm.max_gen_toks)["max_gen_toks"]
    ids, _ = lm.tok_batch_encode([context], left_truncate_len=lm.max_length - room, truncation=lm.truncation)
    return ids[0].tolist()


def _windows(lm: Any, text: str) -> Iterator[list[int]]:
    """Windows of a whole text as it is scored, like those of `HFLM.loglikelihood_rolling`."""
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

    windows = get_rolling_token_windows(
        token_list=lm.tok_encode(text), prefix_token=lm.prefix_token_id, max_seq_len=lm.max_length, context_len=1
    )
    for window in windows:
        yield _scored(lm, *make_disjoint_window(window))
