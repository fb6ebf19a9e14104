"""The figures and tables of a run that are about its training questions.

Shapes: S training questions, F scores of the layers that are read, k neighbours.
"""

from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from turnout import ops
from turnout.aligning.neighbors import Neighbourhood
from turnout.aligning.questions import Asked
from turnout.aligning.reading import Read
from turnout.aligning.training import CURVES

_CHUNK = 4096


def training_figures(asked: Asked, base: Read, trained: Read, hood: Neighbourhood) -> dict[str, Any]:
    """What the base made of the training questions, what the trained routers make of them, and the neighbours between.

    `manifold` is the loss that RoMA minimises, of all training questions, whatever the method minimised.
    """
    return {
        "questions": len(asked.ids),
        "successful": int((base.predicted_S == asked.answer_S).sum()),
        "references": len(hood.reference_R),
        "without_neighbours": hood.n_without,
        "manifold": {
            "before": manifold(base.routing_SF, base.routing_SF, hood),
            "after": manifold(trained.routing_SF, base.routing_SF, hood),
        },
        "moved": float((trained.routing_SF - base.routing_SF).square().sum(1).mean()),
        "training_accuracy": {"before": _accuracy(asked, base), "after": _accuracy(asked, trained)},
        "cross_entropy": {"before": -float(base.logprob_S.mean()), "after": -float(trained.logprob_S.mean())},
    }


def manifold(routing_SF: Tensor, target_SF: Tensor, hood: Neighbourhood) -> float:
    """The manifold loss of all questions, their neighbours' routing taken from `target_SF`."""
    total = 0.0
    for rows in torch.arange(len(routing_SF)).split(_CHUNK):
        near = target_SF[hood.index_Sk[rows].clamp(min=0)]
        total += float(ops.manifold_loss(routing_SF[rows], near, hood.weight_Sk[rows])) * len(rows)
    return total / len(routing_SF)


def curves_table(curves: Tensor) -> pa.Table:
    """One row a step, from 1."""
    columns = {name: curves[:, i].tolist() for i, name in enumerate(CURVES)}
    return pa.table({"step": pa.array(range(1, len(curves) + 1), pa.int64()), **columns})


def neighbours_table(asked: Asked, hood: Neighbourhood) -> pa.Table:
    """One row a training question and neighbour, nearest first."""
    question, at = (hood.index_Sk >= 0).nonzero(as_tuple=True)
    names = [q.id for q in asked.questions]
    return pa.table(
        {
            "id": [names[i] for i in question.tolist()],
            "neighbour": [names[i] for i in hood.index_Sk[question, at].tolist()],
            "rank": pa.array((at + 1).tolist(), pa.int32()),
            "weight": hood.weight_Sk[question, at].tolist(),
        }
    )


def _accuracy(asked: Asked, read: Read) -> float:
    return float((read.predicted_S == asked.answer_S).float().mean())
