from turnout.ops._inputs import refuse


def erc_cost(n: int, k: int, tokens: float, dp: int = 1, ep: int = 1) -> float:
    """What the ERC loss costs a training step, as a share of what the MoE layers' products cost.

    (N · (N/ep) / 3) / (K · T/dp), arXiv 2512.23447: M is N² products of a row with a gate matrix, 2·N²·I·H FLOPs, as
    much as N²/(3·K) tokens cost at 6·K·I·H each. The share is the same forward and backward if backward is twice the
    forward in both; where M's products are computed again in backward (`activation_norms`), M's share is 4/3 of it.

    >>> round(100 * erc_cost(64, 8, 3e6, dp=32), 2)
    0.18

    Args:
        n: N, experts of a layer.
        k: K, experts chosen a token.
        tokens: T, tokens of a step, over all devices.
        dp: data-parallel devices, which share the tokens.
        ep: expert-parallel devices, which share the experts.
    """
    for name, value in (("n", n), ("k", k), ("tokens", tokens), ("dp", dp), ("ep", ep)):
        if not value > 0:
            refuse(name, "a number above 0", value)
    return (n * (n / ep) / 3) / (k * tokens / dp)
