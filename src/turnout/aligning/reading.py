"""Training questions through the tail, with the routers as they are. Shapes: B questions, F scores that are read."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from turnout.aligning.questions import Asked
from turnout.aligning.states import EnteredStates
from turnout.models.change.adapter import RouterWeights
from turnout.models.forward.batches import plan_batches
from turnout.models.forward.reading import Reading
from turnout.models.forward.tail import Tail


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
