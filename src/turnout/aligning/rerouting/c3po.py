"""C3PO (arXiv 2504.07964): a tested question's routing is moved by what routed its answered neighbours well.

It starts at the question's own routing ω. Three surrogates stand for its unknown loss: ω is drawn to a kernel mean of
the neighbours' routing (regression; over neighbours in embedding space), to the nearest dense place of the references'
routing (mode finding; neighbours and kernel in ω-space), or down the kernel mean of the neighbours' losses under ω.

Shapes: B tested questions of a batch, R rows: (question, neighbour) pairs, k neighbours, F experts of all layers, S
training questions.
"""

from dataclasses import dataclass, field

import polars as pl
import torch
from torch import Tensor

from turnout import ops
from turnout.aligning.answers import Answers, Letters
from turnout.aligning.config import ReroutingConfig
from turnout.aligning.flops import count
from turnout.aligning.rerouting.answering import Batch, Rerouted, descent, letter_losses
from turnout.aligning.rerouting.references import References, median_distance
from turnout.aligning.rerouting.steering import Held, Steering, core, logits, scores
from turnout.aligning.state_cache import EnteredStates

STEPS = 10
ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, eq=False)
class Near:
    """Neighbours of a batch's questions, as rows of one.

    Attributes:
        row_R: whose neighbour it is, by its place in the batch.
        question_R: which training question it is.
        weight_R: K_j / ΣK.
        held: their prompts.
    """

    row_R: Tensor
    question_R: Tensor
    weight_R: Tensor
    held: Held


@dataclass(frozen=True, eq=False)
class C3PO:
    """The method.

    Attributes:
        steering: runs prompts with changed routing.
        references: neighbours of the tested questions.
        routing_SF: routing of the training questions under the base.
        states: what enters the tail for the training questions.
        letters: of the training questions.
        config: which surrogate, and how far it goes.
        k: neighbours.
    """

    steering: Steering
    references: References
    routing_SF: Tensor
    states: EnteredStates
    letters: Letters
    config: ReroutingConfig
    k: int
    routing_sigma: float = field(init=False)

    def __post_init__(self) -> None:
        width = self.config.routing_sigma
        if width is None:
            width = median_distance(self.references.routing_RF, self.k)
        object.__setattr__(self, "routing_sigma", width)

    @property
    def steps(self) -> int:
        """Most steps of descent or mode finding."""
        return STEPS if self.config.steps is None else self.config.steps

    def cost(self, question: int) -> int:
        """Tokens of the question's neighbours, each counted as the longest."""
        near = self._near(question)
        return len(near) * max((self.letters.asked.lengths[j] for j in near), default=0)

    def reroute(self, batch: Batch) -> Rerouted:
        """Each question by the routing that its neighbours suggest; one without neighbours keeps its own."""
        own_BF = batch.heard.logits_BF
        alpha: list[float | None] = [None] * len(own_BF)
        if self.config.surrogate == "ngd":
            moved_BF = self.descend(batch)
        elif self.config.surrogate == "mode-finding":
            moved_BF = self.find_mode(batch)
        else:
            moved_BF, alpha = self.regress(batch)
        alone_B = torch.tensor([not self._near(i) for i in batch.questions])
        if self.config.surrogate != "kernel-regression" and not self.steps:
            alone_B[:] = True
        moved_BF = own_BF.where(alone_B.unsqueeze(1), moved_BF)
        with torch.no_grad():
            held = self.steering.hold(batch.prompts, batch.heard.entered, often=False)
            reading = self.steering.replaced(held, moved_BF)
        after = batch.letters.read(reading.logits_BU, batch.question_B)
        answers = Answers(
            batch.base.predicted_B.where(alone_B, after.predicted_B),
            batch.base.logprob_B.where(alone_B, after.logprob_B),
        )
        distance_B = (self._scores(moved_BF) - self._scores(own_BF)).norm(dim=1)
        columns = {
            "neighbours": [len(self._near(i)) for i in batch.questions],
            "alpha": [None if lone else a for lone, a in zip(alone_B.tolist(), alpha, strict=True)],
            "moved": distance_B.tolist(),
        }
        return Rerouted(answers, columns)

    def flops(self, batch: Batch, table: pl.DataFrame) -> float:  # noqa: ARG002  a Method's arguments
        """Operations of `reroute`; what enters the tail for the neighbours is on disk and costs none."""
        return count(lambda: self.reroute(batch))

    def descend(self, batch: Batch) -> Tensor:
        """NGD: logits [B, F] after steps of gradient descent on ΣK_j·CE(f(x_j, ω), y_j) / ΣK."""
        own_BF, core_BF = batch.heard.logits_BF, self._core(batch)
        added_BF, near = torch.zeros_like(own_BF), self.near(batch)
        for _ in range(self.steps if near else 0):
            taken_BF = added_BF.requires_grad_()
            loss_B = self.neighbours_loss(near, own_BF + taken_BF)
            (gradient_BF,) = torch.autograd.grad(loss_B.sum(), taken_BF)
            added_BF = taken_BF.detach() + descent(gradient_BF * core_BF, self.config)
        return own_BF + added_BF.detach()

    @torch.no_grad()
    def regress(self, batch: Batch) -> tuple[Tensor, list[float | None]]:
        """Kernel regression: logits [B, F] of ω ← αω + (1−α)·ΣK_jω_j/ΣK, and α of each question."""
        own_BF = self._scores(batch.heard.logits_BF)
        mean_BF = self.references.regress(batch.question_B, self.routing_SF)
        given = self.config.alpha
        tried = ALPHAS if given is None else (given,)
        blends = [self._blend(batch, own_BF, mean_BF, alpha) for alpha in tried]
        if given is not None:
            return blends[0], [given] * len(own_BF)
        near = self.near(batch)
        loss_AB = torch.stack([self.neighbours_loss(near, blend_BF) for blend_BF in blends])
        best_B = len(tried) - 1 - loss_AB.flip(0).argmin(0)  # of equals the one that changes least
        chosen_BF = torch.stack(blends)[best_B, torch.arange(len(own_BF))]
        return chosen_BF, [tried[i] for i in best_B.tolist()]

    @torch.no_grad()
    def find_mode(self, batch: Batch) -> Tensor:
        """Mode finding: logits [B, F] after steps of mean shift ω ← αω + (1−α)·ΣK_jω_j/ΣK among the references."""
        alpha, reference_RF = self.config.alpha, self.references.routing_RF
        logits_BF, k = batch.heard.logits_BF, min(self.k, len(self.references.routing_RF))
        for _ in range(self.steps):
            omega_BF = self._scores(logits_BF)
            near_BkF = reference_RF[ops.neighbours(omega_BF, reference_RF, k, self.routing_sigma)[0]]
            mean_BF = ops.kernel_regression(omega_BF, near_BkF, near_BkF, self.routing_sigma)
            logits_BF = self._blend(batch, omega_BF, mean_BF, 0.5 if alpha is None else alpha)
        return logits_BF

    def near(self, batch: Batch) -> Near | None:
        """The neighbours of `batch`, ready to be run; None if there are none."""
        index_Bk, weight_Bk = (x[batch.question_B] for x in (self.references.index_Nk, self.references.weight_Nk))
        row_R, at_R = (index_Bk >= 0).nonzero(as_tuple=True)
        if not len(row_R):
            return None
        question_R = index_Bk[row_R, at_R]
        prompts = [self.letters.asked.ids[j] for j in question_R.tolist()]
        held = self.steering.hold(prompts, self.states.get(question_R.tolist()))
        return Near(row_R, question_R, weight_Bk[row_R, at_R], held)

    def neighbours_loss(self, near: Near | None, logits_BF: Tensor) -> Tensor:
        """ΣK_j·CE(f(x_j, ω), y_j)/ΣK [B]: each question's routing put in the place of its neighbours' own."""
        loss_B = logits_BF.new_zeros(len(logits_BF))
        if near is None:
            return loss_B
        reading = self.steering.replaced(near.held, logits_BF[near.row_R])
        answer_R = self.letters.asked.answer_S[near.question_R]
        loss_R = letter_losses(self.letters, reading.logits_BU, near.question_R, answer_R)
        return loss_B.index_add(0, near.row_R, near.weight_R * loss_R)

    def _near(self, question: int) -> list[int]:
        return [j for j in self.references.index_Nk[question].tolist() if j >= 0]

    def _core(self, batch: Batch) -> Tensor:
        layers = self.steering.tail.layers
        return core(layers, self._scores(batch.heard.logits_BF), self.config.core_experts)

    def _scores(self, logits_BF: Tensor) -> Tensor:
        return scores(self.steering.tail.layers, logits_BF)

    def _blend(self, batch: Batch, omega_BF: Tensor, mean_BF: Tensor, alpha: float) -> Tensor:
        """Logits of αω + (1−α)·mean for the core experts; the others keep what they have in ω."""
        if alpha == 1:
            return logits(self.steering.tail.layers, omega_BF, batch.heard.logits_BF)
        new_BF = (alpha * omega_BF + (1 - alpha) * mean_BF).where(self._core(batch), omega_BF)
        return logits(self.steering.tail.layers, new_BF, batch.heard.logits_BF)
