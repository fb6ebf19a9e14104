"""Routing and predictions of the training questions: under the base routers, at each step, and after training.

Shapes: S training questions, B of a batch, F scores: the experts of all layers that are read, one layer after another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from turnout.aligning.answers import Letters
from turnout.aligning.questions import QuestionSet
from turnout.aligning.state_cache import HiddenStateCache
from turnout.listener import Listener
from turnout.models.change.adapter import RouterWeights
from turnout.models.forward.batches import plan_batches
from turnout.models.forward.reading import Reading
from turnout.models.forward.tail import Tail
from turnout.runs import atomic


@dataclass(frozen=True, eq=False)
class Readings:
    """Routing and predictions of all training questions under the same routers.

    Attributes:
        routing_SF: r, the scores of all layers that are read.
        predicted_S: the choice of the greatest logit.
        logprob_S: log-probability of the right letter.
    """

    routing_SF: Tensor
    predicted_S: Tensor
    logprob_S: Tensor

    @property
    def cross_entropy(self) -> float:
        """Mean cross-entropy of the right letter, in nats: the part of the loss that every method minimizes."""
        return -float(self.logprob_S.mean())

    def right(self, questions: QuestionSet) -> Tensor:
        """Whether each question is answered right, [S]."""
        return self.predicted_S == questions.answer_S


@dataclass(frozen=True, eq=False)
class Reader:
    """Runs training questions through the tail with the routers `weights`; use it inside `tail.opened()`."""

    tail: Tail
    questions: QuestionSet
    states: HiddenStateCache
    weights: RouterWeights
    token_budget: int

    def read(self, indices: Sequence[int]) -> Reading:
        """One forward of the questions `indices`; with gradient to the routers where enabled."""
        with self.weights.in_use():
            return self.tail.resume([self.questions.ids[i] for i in indices], self.states.get(indices))

    def groups(self, indices: Sequence[int]) -> list[list[int]]:
        """`indices` in parts of at most the token budget."""
        plan = plan_batches([self.questions.lengths[i] for i in indices], self.token_budget)
        return [[indices[i] for i in part] for part in plan]

    @torch.no_grad()
    def routing(self, question_B: Tensor) -> Tensor:
        """Routing r of some questions, [B, F], without gradient."""
        indices = question_B.tolist()
        place = {index: row for row, index in enumerate(indices)}
        parts = [(group, self.read(group).routing_BF) for group in self.groups(indices)]
        order = torch.tensor([place[i] for group, _ in parts for i in group])
        routing_BF = torch.cat([part for _, part in parts])
        return torch.empty_like(routing_BF).index_copy(0, order.to(routing_BF.device), routing_BF)


def read_base(
    tail: Tail, letters: Letters, folder: Path, max_bytes: int, token_budget: int, listener: Listener
) -> tuple[Readings, HiddenStateCache]:
    """Run every training question through the base model, unless an earlier process of this run did.

    The hidden states go to a file in `folder` and the readings to a second one, which is written last: its presence
    means that both are complete.
    """
    questions, stored, path = letters.questions, folder / "base.safetensors", folder / "states.bin"
    earlier = _stored(stored)
    if earlier is not None and (path.exists() or not tail.cut):
        return earlier, HiddenStateCache(path, tail, questions.ids, max_bytes, filled=True)
    cache, rows = HiddenStateCache(path, tail, questions.ids, max_bytes), _Rows(letters)
    for batch in plan_batches(questions.lengths, token_budget):
        reading, states = tail.run_model([questions.ids[i] for i in batch])
        for i, states_TH in zip(batch, states, strict=bool(states)):
            cache.put(i, states_TH)
        rows.add(batch, reading)
        listener.progress("reading the base model", rows.tokens, sum(questions.lengths), "tokens")
    cache.flush()
    base = rows.all()
    arrays = {"routing_SF": base.routing_SF, "predicted_S": base.predicted_S, "logprob_S": base.logprob_S}
    atomic.write_bytes(stored, save(arrays))
    return base, cache


def read_trained(reader: Reader, letters: Letters, listener: Listener) -> Readings:
    """Run every training question through the tail with the routers of `reader`."""
    rows = _Rows(letters)
    for group in reader.groups(range(len(letters.questions.ids))):
        with torch.no_grad():
            rows.add(group, reader.read(group))
        listener.progress("reading the trained routers", rows.tokens, sum(letters.questions.lengths), "tokens")
    return rows.all()


class _Rows:
    """Readings of batches in any order, collected by question."""

    def __init__(self, letters: Letters) -> None:
        self.tokens, self._letters = 0, letters
        self._rows: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def add(self, indices: Sequence[int], reading: Reading) -> None:
        """Add the reading of the questions `indices`."""
        answers = self._letters.answers(reading.logits_BU, torch.tensor(indices))
        routing_BF = reading.routing_BF.cpu()
        for row, i in enumerate(indices):
            self._rows[i] = (routing_BF[row], answers.predicted_B[row], answers.logprob_B[row])
        self.tokens += sum(self._letters.questions.lengths[i] for i in indices)

    def all(self) -> Readings:
        """The readings in the order of the questions."""
        rows = [self._rows[i] for i in range(len(self._rows))]
        return Readings(*(torch.stack(column) for column in zip(*rows, strict=True)))


def _stored(path: Path) -> Readings | None:
    """The readings that an earlier process stored; None if there is no file or a damaged one."""
    try:
        arrays = load_file(path)
        return Readings(arrays["routing_SF"], arrays["predicted_S"], arrays["logprob_S"])
    except (OSError, SafetensorError, KeyError):
        return None
