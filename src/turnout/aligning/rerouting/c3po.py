"""C3PO (arXiv 2504.07964): the routing of a question is moved towards routing that served its answered neighbors well.

It starts at the question's own routing ω. One of three surrogates replaces its unknown loss: ω moves to a kernel mean
of the neighbors' routing (kernel regression; neighbors by embedding), to the nearest mode of the references' routing
(mode finding; neighbors and kernel in ω-space), or down the kernel mean of the neighbors' losses under ω (NGD).

Shapes: B evaluation questions of a batch, R rows: (question, neighbor) pairs, k neighbors, F experts of all layers, S
training questions, A values of alpha.
"""

from dataclasses import dataclass, field

import polars as pl
import torch
from torch import Tensor

from turnout import ops
from turnout.aligning.answers import Answers, Letters
from turnout.aligning.config import ReroutingConfig
from turnout.aligning.flops import count
from turnout.aligning.rerouting.answering import Batch, Rerouted, descent_step
from turnout.aligning.rerouting.references import References, median_distance
from turnout.aligning.rerouting.steering import Steering, TailPrompts, core, logits, scores
from turnout.aligning.state_cache import HiddenStateCache

STEPS = 10
ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Values of alpha that kernel regression tries."""


@dataclass(frozen=True, eq=False)
class NeighborRows:
    """Neighbors of the questions of a batch, one row a (question, neighbor) pair.

    Attributes:
        row_R: place of the question in the batch.
        question_R: index of the neighbor among the training questions.
        weight_R: K_j / ΣK.
        prompts: prompts of the neighbors.
    """

    row_R: Tensor
    question_R: Tensor
    weight_R: Tensor
    prompts: TailPrompts


@dataclass(frozen=True, eq=False)
class C3PO:
    """C3PO as a `ReroutingMethod`.

    Attributes:
        steering: runs prompts with changed routing.
        references: neighbors of the evaluation questions.
        routing_SF: routing of the training questions under the base routers.
        states: cache of the tail's input for the training questions.
        letters: letters of the training questions.
        config: surrogate and its settings.
        k: number of neighbors.
        routing_sigma: kernel width over distances of routing.
    """

    steering: Steering
    references: References
    routing_SF: Tensor
    states: HiddenStateCache
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

    def cost(self, index: int) -> int:
        """Number of tokens of the question's neighbors, each counted as the longest."""
        near = self.references.neighbors_of(index)
        return len(near) * max((self.letters.questions.lengths[j] for j in near), default=0)

    def reroute(self, batch: Batch) -> Rerouted:
        """Answer each question with the surrogate's routing; a question without neighbors keeps its own."""
        own_BF = batch.forward.logits_BF
        alpha: list[float | None] = [None] * len(own_BF)
        if self.config.surrogate == "ngd":
            moved_BF = self.descend(batch)
        elif self.config.surrogate == "mode-finding":
            moved_BF = self.find_mode(batch)
        else:
            moved_BF, alpha = self.regress(batch)
        unmoved_B = torch.tensor([not self.references.neighbors_of(i) for i in batch.indices])
        if self.config.surrogate != "kernel-regression" and not self.steps:
            unmoved_B[:] = True
        moved_BF = own_BF.where(unmoved_B.unsqueeze(1), moved_BF)
        with torch.no_grad():
            prompts = self.steering.prompts(batch.prompts, batch.forward.states, repeated=False)
            reading = self.steering.with_replaced(prompts, moved_BF)
        base, after = batch.base_answers, batch.letters.answers(reading.logits_BU, batch.question_B)
        answers = Answers(
            base.predicted_B.where(unmoved_B, after.predicted_B), base.logprob_B.where(unmoved_B, after.logprob_B)
        )
        distance_B = (self._scores(moved_BF) - self._scores(own_BF)).norm(dim=1)
        columns = {
            "neighbours": [len(self.references.neighbors_of(i)) for i in batch.indices],
            "alpha": [None if unmoved else a for unmoved, a in zip(unmoved_B.tolist(), alpha, strict=True)],
            "moved": distance_B.tolist(),
        }
        return Rerouted(answers, columns)

    def flops(self, batch: Batch, table: pl.DataFrame) -> float:  # noqa: ARG002  the arguments of a ReroutingMethod
        """Operations of `reroute`; the neighbors' hidden states are on disk and cost none."""
        return count(lambda: self.reroute(batch))

    def descend(self, batch: Batch) -> Tensor:
        """NGD: logits [B, F] after steps of gradient descent on ΣK_j·CE(f(x_j, ω), y_j) / ΣK."""
        own_BF, core_BF = batch.forward.logits_BF, self._core(batch)
        added_BF, near = torch.zeros_like(own_BF), self.neighbor_rows(batch)
        for _ in range(self.steps if near else 0):
            variable_BF = added_BF.requires_grad_()
            loss_B = self.neighbors_loss(near, own_BF + variable_BF)
            (gradient_BF,) = torch.autograd.grad(loss_B.sum(), variable_BF)
            added_BF = variable_BF.detach() + descent_step(gradient_BF * core_BF, self.config)
        return own_BF + added_BF.detach()

    @torch.no_grad()
    def regress(self, batch: Batch) -> tuple[Tensor, list[float | None]]:
        """Kernel regression: logits [B, F] of ω ← αω + (1−α)·ΣK_jω_j/ΣK, and α of each question."""
        own_BF = self._scores(batch.forward.logits_BF)
        mean_BF = self.references.kernel_mean(batch.question_B, self.routing_SF)
        given = self.config.alpha
        tried = ALPHAS if given is None else (given,)
        blends = [self._blend(batch, own_BF, mean_BF, alpha) for alpha in tried]
        if given is not None:
            return blends[0], [given] * len(own_BF)
        near = self.neighbor_rows(batch)
        loss_AB = torch.stack([self.neighbors_loss(near, blend_BF) for blend_BF in blends])
        best_B = len(tried) - 1 - loss_AB.flip(0).argmin(0)  # of equal ones the greatest, which changes least
        chosen_BF = torch.stack(blends)[best_B, torch.arange(len(own_BF))]
        return chosen_BF, [tried[i] for i in best_B.tolist()]

    @torch.no_grad()
    def find_mode(self, batch: Batch) -> Tensor:
        """Mode finding: logits [B, F] after steps of mean shift ω ← αω + (1−α)·ΣK_jω_j/ΣK among the references."""
        alpha, reference_RF = self.config.alpha, self.references.routing_RF
        logits_BF, k = batch.forward.logits_BF, min(self.k, len(self.references.routing_RF))
        for _ in range(self.steps):
            omega_BF = self._scores(logits_BF)
            near_BkF = reference_RF[ops.neighbours(omega_BF, reference_RF, k, self.routing_sigma)[0]]
            mean_BF = ops.kernel_regression(omega_BF, near_BkF, near_BkF, self.routing_sigma)
            logits_BF = self._blend(batch, omega_BF, mean_BF, 0.5 if alpha is None else alpha)
        return logits_BF

    def neighbor_rows(self, batch: Batch) -> NeighborRows | None:
        """The neighbors of `batch` with their prompts; None if there are none."""
        index_Bk, weight_Bk = (x[batch.question_B] for x in (self.references.index_Nk, self.references.weight_Nk))
        row_R, at_R = (index_Bk >= 0).nonzero(as_tuple=True)
        if not len(row_R):
            return None
        question_R = index_Bk[row_R, at_R]
        ids = [self.letters.questions.ids[j] for j in question_R.tolist()]
        prompts = self.steering.prompts(ids, self.states.get(question_R.tolist()))
        return NeighborRows(row_R, question_R, weight_Bk[row_R, at_R], prompts)

    def neighbors_loss(self, near: NeighborRows | None, logits_BF: Tensor) -> Tensor:
        """ΣK_j·CE(f(x_j, ω), y_j)/ΣK [B]: the neighbors' loss with each question's routing in place of their own."""
        loss_B = logits_BF.new_zeros(len(logits_BF))
        if near is None:
            return loss_B
        reading = self.steering.with_replaced(near.prompts, logits_BF[near.row_R])
        loss_R = self.letters.losses(reading.logits_BU, near.question_R).cpu()
        return loss_B.index_add(0, near.row_R, near.weight_R * loss_R)

    def _core(self, batch: Batch) -> Tensor:
        layers = self.steering.tail.layers
        return core(layers, self._scores(batch.forward.logits_BF), self.config.core_experts)

    def _scores(self, logits_BF: Tensor) -> Tensor:
        return scores(self.steering.tail.layers, logits_BF)

    def _blend(self, batch: Batch, omega_BF: Tensor, mean_BF: Tensor, alpha: float) -> Tensor:
        """Logits of αω + (1−α)·mean for the core experts; the others keep their score in ω."""
        if alpha == 1:
            return logits(self.steering.tail.layers, omega_BF, batch.forward.logits_BF)
        new_BF = (alpha * omega_BF + (1 - alpha) * mean_BF).where(self._core(batch), omega_BF)
        return logits(self.steering.tail.layers, new_BF, batch.forward.logits_BF)
