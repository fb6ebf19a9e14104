"""Routing and predictions of the training questions, before and after.

Shapes: S training questions, B of a batch, F scores of the layers that are read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from turnout.aligning.answers import Letters
from turnout.aligning.questions import Asked
from turnout.aligning.state_cache import EnteredStates
from turnout.models.change.adapter import RouterWeights
from turnout.models.forward.batches import plan_batches
from turnout.models.forward.reading import Reading
from turnout.models.forward.tail import Tail
from turnout.progress import Progress
from turnout.runs import atomic


@dataclass(frozen=True, eq=False)
class Reader:
    """Reads the questions of `asked` with the routers `weights`; use it inside `tail.opened()`."""

    tail: Tail
    asked: Asked
    states: EnteredStates
    weights: RouterWeights
    token_budget: int

    def read(self, questions: Sequence[int]) -> Reading:
        """One forward; with gradient to the routers where it is enabled."""
        with self.weights.in_use():
            return self.tail.resume([self.asked.ids[i] for i in questions], self.states.get(questions))

    def groups(self, questions: Sequence[int]) -> list[list[int]]:
        """`questions` in parts of at most the token budget."""
        plan = plan_batches([self.asked.lengths[i] for i in questions], self.token_budget)
        return [[questions[i] for i in part] for part in plan]

    @torch.no_grad()
    def routing(self, question_B: Tensor) -> Tensor:
        """Routing r of some questions, [B, F], without gradient."""
        questions = question_B.tolist()
        place = {question: row for row, question in enumerate(questions)}
        parts = [(group, self.read(group).routing_BF) for group in self.groups(questions)]
        order = torch.tensor([place[i] for group, _ in parts for i in group])
        routing_BF = torch.cat([part for _, part in parts])
        return torch.empty_like(routing_BF).index_copy(0, order.to(routing_BF.device), routing_BF)


@dataclass(frozen=True, eq=False)
class Read:
    """All training questions, read by the same routers.

    Attributes:
        routing_SF: r of each.
        predicted_S: the choice of the greatest logit.
        logprob_S: log-probability of the right letter.
    """

    routing_SF: Tensor
    predicted_S: Tensor
    logprob_S: Tensor


def read_base(
    tail: Tail, letters: Letters, folder: Path, most_bytes: int, token_budget: int, progress: Progress
) -> tuple[Read, EnteredStates]:
    """Run every training question through the base model, unless an earlier process of this run did.

    The states that enter the tail go to a file in `folder`, the rest is returned and kept beside it; that second file
    is written last, so that it answers for the first.
    """
    asked, kept, path = letters.asked, folder / "base.safetensors", folder / "states.bin"
    found = _kept(kept)
    if found is not None and (path.exists() or not tail.cut):
        return found, EnteredStates(path, tail, asked.ids, most_bytes, filled=True)
    states, rows = EnteredStates(path, tail, asked.ids, most_bytes), _Rows(letters)
    for batch in plan_batches(asked.lengths, token_budget):
        reading, entered = tail.run_model([asked.ids[i] for i in batch])
        for i, entered_TH in zip(batch, entered, strict=bool(entered)):
            states.put(i, entered_TH)
        rows.add(batch, reading)
        progress("reading the base model", rows.tokens, sum(asked.lengths), "tokens")
    states.flush()
    made = rows.all()
    arrays = {"routing_SF": made.routing_SF, "predicted_S": made.predicted_S, "logprob_S": made.logprob_S}
    atomic.write_bytes(kept, save(arrays))
    return made, states


def read_trained(reader: Reader, letters: Letters, progress: Progress) -> Read:
    """Every training question through the tail, with the routers of `reader`."""
    rows = _Rows(letters)
    for group in reader.groups(range(len(letters.asked.ids))):
        with torch.no_grad():
            rows.add(group, reader.read(group))
        progress("reading the trained routers", rows.tokens, sum(letters.asked.lengths), "tokens")
    return rows.all()


class _Rows:
    """Gathers what batches in any order say of the questions."""

    def __init__(self, letters: Letters) -> None:
        self.tokens, self._letters = 0, letters
        self._found: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def add(self, questions: Sequence[int], reading: Reading) -> None:
        """What one forward said of `questions`."""
        answers, routing_BF = self._letters.read(reading.logits_BU, torch.tensor(questions)), reading.routing_BF.cpu()
        for row, i in enumerate(questions):
            self._found[i] = (routing_BF[row], answers.predicted_B[row], answers.logprob_B[row])
        self.tokens += sum(self._letters.asked.lengths[i] for i in questions)

    def all(self) -> Read:
        """In the order of the questions."""
        rows = [self._found[i] for i in range(len(self._found))]
        return Read(*(torch.stack(column) for column in zip(*rows, strict=True)))


def _kept(path: Path) -> Read | None:
    """What an earlier process found; None if there is nothing whole."""
    try:
        arrays: Mapping[str, Tensor] = load_file(path)
        return Read(arrays["routing_SF"], arrays["predicted_S"], arrays["logprob_S"])
    except (OSError, SafetensorError, KeyError):
        return None
