"""Loss and gradients of a tiny model; the coupling term by its definition, and M in plain loops over lists."""

import math

import torch

from turnout.models.wrap.anatomy import read
from turnout.models.wrap.gates import gate_matrices, router_rows

IDS = torch.randint(256, (2, 12), generator=torch.Generator().manual_seed(0))


def loss_of(model, labels=IDS, **kwargs):
    """The loss that the model returns."""
    torch.manual_seed(0)  # Phi-MoE's router jitters while it trains
    return model(input_ids=IDS, labels=labels, **kwargs).loss


def gradients(model):
    """The parameters' gradients, which are reset."""
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return grads


def expected_term(model, alpha=1.0, reduction=torch.mean, layers=None):
    """The term without noise, computed from the parameters by its definition, with autograd alone."""
    losses = []
    for layer in read(model).layers:
        if layers is None or layer.layer in layers:
            m = torch.einsum("nh,mhi->nmi", router_rows(layer), gate_matrices(layer)).norm(dim=2)
            d, n = m.diagonal(), len(m)
            off = ~torch.eye(n, dtype=torch.bool)
            losses.append(((m - alpha * d[:, None]).relu() + (m - alpha * d[None]).relu())[off].sum() / n**2)
    return reduction(torch.stack(losses))


def plain_norms(router, gate_up):
    """M of router rows [N, H] and fused experts [N, 2I, H], and the lengths of rows and gates."""
    rows = router.tolist()
    gates = [block[: len(block) // 2] for block in gate_up.tolist()]
    norms = [[length([dot(row, out) for out in gate]) for gate in gates] for row in rows]
    return norms, ([length(row) for row in rows], [length([x for out in gate for x in out]) for gate in gates])


def dot(a, b):
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def length(values):
    return math.sqrt(math.fsum(x * x for x in values))
