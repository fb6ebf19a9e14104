"""Source of a masking run: an audit's sets of experts, its questions as they were prompted, its model and timings.

Shapes: S samples, E routed experts of a layer.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from turnout import ops
from turnout.auditing.config import AuditConfig
from turnout.auditing.reading import Domains
from turnout.auditing.result import AUDIT_FILE
from turnout.errors import RunError
from turnout.masking.scores import Sample
from turnout.masking.sets import MaskLayer
from turnout.runs import RunFolder, Trace


@dataclass(frozen=True, eq=False)
class AuditSource:
    """An audit to mask: its sets, its questions, its model and timings."""

    path: Path
    identity: str
    model: dict[str, Any]
    config: AuditConfig
    timings: dict[str, Any]
    layers: tuple[MaskLayer, ...]
    samples: tuple[Sample, ...]
    unanswered: int

    @classmethod
    def open(cls, path: Path | str, limit: int | None) -> "AuditSource":
        """The complete audit in `path`, at most `limit` questions of each subject; RunError for anything else."""
        run = RunFolder.read(path)
        audit = run.read_json(AUDIT_FILE)
        if not (run.path / "trace").is_dir():
            do = "mask the run that it was measured from"
            raise RunError(path, expected="an audit with its own trace", received="one measured again", do=do)
        trace, tasks, model = run.trace(), audit["tasks"], audit["model"]
        if not isinstance(model, dict) or "digest" not in model or not all(layer.scored for layer in trace.layers):
            do = "audit the model itself"
            raise RunError(
                path, expected="a trace of a model with its router scores", received="an imported one", do=do
            )
        settings, result = audit["config"], audit["layers"]
        assert isinstance(settings, dict)
        assert isinstance(result, list)
        assert isinstance(tasks, dict)
        samples, unanswered = audited_samples(trace, limit, has_texts=tasks.get("text_rows", 0) > 0)
        timings = run.manifest.get("timings")
        config = AuditConfig.of(**settings)
        layers = _layers(trace, result, list(tasks["domains"]))
        return cls(
            Path(path),
            run.identity,
            model,
            config,
            timings if isinstance(timings, dict) else {},
            layers,
            samples,
            unanswered,
        )


def _layers(trace: Trace, layers: Sequence[Mapping[str, Any]], order: Sequence[str]) -> tuple[MaskLayer, ...]:
    """The audit's sets, and gate mass as its coverage counts it, mean over domains, in both scopes."""
    domains = Domains.of(trace.samples()["domain"].to_list(), order)
    result = []
    for layer in layers:
        mass = []
        for scope in ("all", "last"):
            scores_SE = torch.from_numpy(trace.scores(layer["layer"], scope)).double()
            mean_E = ops.contribution(scores_SE, domains.label_S, len(domains)).mean(0)
            mass.append((mean_E / mean_E.sum()).numpy())
        sets = tuple(layer["committee"]), tuple(layer["candidates"])
        result.append(MaskLayer(layer["layer"], layer["top_k"], *sets, layer["fallback"], *mass))
    return tuple(result)


def audited_samples(trace: Trace, limit: int | None, has_texts: bool) -> tuple[tuple[Sample, ...], int]:
    """The samples that can be scored, and how many questions have no known answer.

    Widths and bytes need the tokenizer, and are filled in by `read_prompts`.
    """
    tokens, offsets = trace.tokens()
    seen: dict[str, int] = {}
    samples, unanswered = [], 0
    columns = ("index", "subject", "domain", "answer", "choice_logprobs")
    for place, (index, subject, domain, answer, logprobs) in enumerate(trace.samples().select(columns).rows()):
        ids = tokens[offsets[place] : offsets[place + 1]].tolist()
        is_text = has_texts and answer is None and not logprobs
        if answer is None and not is_text:
            unanswered += 1
            continue
        seen[subject] = seen.get(subject, 0) + 1
        if limit is None or seen[subject] <= limit:
            samples.append(Sample(index, ids, 0 if is_text else len(logprobs or ()) or -1, answer, 0, domain, subject))
    return tuple(samples), unanswered


def read_prompts(samples: Sequence[Sample], tokenizer: PreTrainedTokenizerBase, where: Path) -> tuple[Sample, ...]:
    """Number of choices of each question, where the audit read no answers, and number of bytes of each text."""
    result = []
    for a in samples:
        width, n_bytes = a.width, 0
        if a.width < 0:
            width = listed_choices(tokenizer.decode(a.tokens))
            if width < 2 or a.answer is None or a.answer >= width:
                do = "audit again with answers read (--answers)"
                raise RunError(where, expected=f"choices in the prompt of sample {a.index}", received=width, do=do)
        elif a.width == 0:
            n_bytes = len(tokenizer.decode(a.tokens[1:], skip_special_tokens=True).encode())
            if n_bytes == 0:
                continue  # a text of one token: nothing of it is predicted
        result.append(Sample(a.index, a.tokens, width, a.answer, n_bytes, a.domain, a.subject))
    return tuple(result)


def listed_choices(prompt: str) -> int:
    r"""How many choices a prompt lists: lines A., B., … after its last "Choices:".

    >>> listed_choices("Question: 1 + 1?\nChoices:\nA. 2\nB. 3\nAnswer:")
    2
    """
    listed = prompt.rpartition("Choices:\n")[2].rpartition("\nAnswer:")[0]
    n = 0
    for line in listed.split("\n"):
        if re.match(rf"{chr(ord('A') + n)}\. ?", line) and n < 26:
            n += 1
    return n
