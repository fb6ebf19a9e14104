"""What a method may look at. Shapes: S training questions, B of a batch, F scores of the layers that are read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from turnout.aligning.neighbourhood import Neighbourhood
from turnout.models.change.adapter import RouterWeights
from turnout.models.wrap.anatomy import MoELayer

Penalty = Callable[[Tensor, Tensor], Tensor]
"""From the batch's routing [B, F] and its questions [B] to a scalar, mean over the batch."""


@dataclass(frozen=True, eq=False)
class Setting:
    """One alignment, as its method sees it.

    Attributes:
        routing_SF: r of every training question under the base routers.
        hood: its neighbours.
        domains: each question's domain.
        layers: the layers that are trained, in the order of F.
        weights: the routers that are trained.
        live: r of some questions (their numbers) under the routers as they are, without gradient; None: base.
        seed: of what is drawn.
    """

    routing_SF: Tensor
    hood: Neighbourhood
    domains: Sequence[str]
    layers: Sequence[MoELayer]
    weights: RouterWeights
    live: Callable[[Tensor], Tensor] | None
    seed: int
