"""Coupling in plain loops over lists, independent of the package."""

import math


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
