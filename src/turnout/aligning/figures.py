"""Figures and tables of the training questions.

Shapes: S training questions, F scores of the layers that are read, k neighbors.
"""

from typing import Any

import pyarrow as pa
from torch import Tensor

from turnout.aligning.methods import ManifoldPenalty, RoutingTargets
from turnout.aligning.neighbors import Neighbors
from turnout.aligning.questions import QuestionSet
from turnout.aligning.reading import Readings
from turnout.aligning.training import CURVES


def training_figures(questions: QuestionSet, base: Readings, trained: Readings, neighbors: Neighbors) -> dict[str, Any]:
    """Counts, losses and accuracies of the training questions before and after, for align.json.

    `manifold` is RoMA's penalty over all training questions whatever the method minimized, by the function that
    training minimizes; `cross_entropy` the other part of the loss.
    """
    manifold = ManifoldPenalty(RoutingTargets(base.routing_SF, neighbors.index_Sk, neighbors.weight_Sk))
    return {
        "questions": len(questions.ids),
        "successful": int(base.right(questions).sum()),
        "references": len(neighbors.reference_R),
        "without_neighbours": neighbors.n_without,
        "manifold": {"before": manifold.over_all(base.routing_SF), "after": manifold.over_all(trained.routing_SF)},
        "moved": float((trained.routing_SF - base.routing_SF).square().sum(1).mean()),
        "training_accuracy": {"before": _share(base.right(questions)), "after": _share(trained.right(questions))},
        "cross_entropy": {"before": base.cross_entropy, "after": trained.cross_entropy},
    }


def curves_table(curves: Tensor) -> pa.Table:
    """One row a step, from 1."""
    columns = {name: curves[:, i].tolist() for i, name in enumerate(CURVES)}
    return pa.table({"step": pa.array(range(1, len(curves) + 1), pa.int64()), **columns})


def neighbors_table(questions: QuestionSet, neighbors: Neighbors) -> pa.Table:
    """One row a training question and neighbor, nearest first."""
    question, at = (neighbors.index_Sk >= 0).nonzero(as_tuple=True)
    names = [q.id for q in questions.questions]
    return pa.table(
        {
            "id": [names[i] for i in question.tolist()],
            "neighbour": [names[i] for i in neighbors.index_Sk[question, at].tolist()],
            "rank": pa.array((at + 1).tolist(), pa.int32()),
            "weight": neighbors.weight_Sk[question, at].tolist(),
        }
    )


def _share(right_S: Tensor) -> float:
    return float(right_S.float().mean())
