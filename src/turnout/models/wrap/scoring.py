"""How a router computes its scores, read from what it returns: softmax or sigmoid of its logits, or no function at all.

The probe calls the router again with random logits in place of its own: softmax and sigmoid hardly differ on small
logits, a single weight is proportional to anything, and probabilities near 1/E look like logits near 0.

Shapes: T tokens, E routed experts, K experts chosen a token.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from turnout.models.wrap.families import DEPARTURES, Scoring

PRODUCTS = (
    functional.linear,
    torch.mm,
    torch.matmul,
    Tensor.mm,
    Tensor.matmul,
    Tensor.__matmul__,
    torch.linalg.vector_norm,
)
"""Operations that compute a router's logits from hidden states and rows; the last in AoE, whose logits are norms."""
_SPREAD = 2.0  # standard deviation of the logits at which softmax and sigmoid are told apart
_TOLERANCE = 0.03  # deviation from proportionality; bfloat16 rounds a weight to 0.4 %
_SUM_TOLERANCE = 0.02  # of probabilities in bfloat16, which may be 256 or more

Output = tuple[Tensor, ...]


def scoring_of(
    model_type: str, router: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Output
) -> Scoring | None:
    """The function from what a router returns first to its scores; None if its weights fit none.

    Args:
        model_type: the model's family; `DEPARTURES` name families whose weights fit none.
        router: keeps the contract for these arguments.
        args: of its call.
        kwargs: of its call.
        output: what it returned: (logits or scores [T, E], weights [T, K], indices [T, K]).
    """
    if model_type in DEPARTURES:
        return DEPARTURES[model_type].scoring
    with _at_least_two(router), _RandomLogits(output[0].shape[1]) as mode:
        again = router.forward(*args, **kwargs)
    router.forward(*args, **kwargs)  # a router may keep products for its experts: those of the true logits again
    if mode.products and _in_unit_interval(output[0]) and _in_unit_interval(again[0]):
        return _of_scores(output, again)
    spread = float(output[0].float().std())
    if not float(again[0].float().std()) > _SPREAD / 2 and args and spread > 0:  # its logits are no product
        with _at_least_two(router):
            again = router.forward(args[0] * (_SPREAD / spread), *args[1:], **kwargs)
    return _fitting(again)


def _of_scores(output: Output, again: Output) -> Scoring | None:
    """The scoring of a router whose first output stays between 0 and 1 with random logits: it returns scores.

    Probabilities are recognized by their sum alone: a family may multiply its weights by a factor of each expert.
    """
    sums = torch.cat([x[0].float().sum(-1) for x in (output, again)])
    if bool(((sums - 1).abs() <= _SUM_TOLERANCE).all()):
        return "scores"
    weights_TK, chosen_TK = again[1].float(), again[0].float().gather(1, again[2].long())
    return "scores" if weights_TK.shape[1] > 1 and _deviation(weights_TK, chosen_TK) <= _TOLERANCE else None


def _fitting(output: Output) -> Scoring | None:
    """Softmax or sigmoid: the one that the weights of the chosen experts are proportional to, token by token."""
    logits_TE, weights_TK, indices_TK = (o.float() if o.is_floating_point() else o for o in output)
    if weights_TK.shape[1] < 2:
        return None
    deviation: dict[Scoring, float] = {
        "softmax": _deviation(weights_TK, logits_TE.softmax(-1).gather(1, indices_TK.long())),
        "sigmoid": _deviation(weights_TK, logits_TE.sigmoid().gather(1, indices_TK.long())),
    }
    best = min(deviation, key=lambda scoring: deviation[scoring])
    return best if deviation[best] <= _TOLERANCE else None


class _RandomLogits(TorchFunctionMode):
    """Active during one call of a router: random logits in place of the products of hidden states and rows.

    Scaling the router's input instead is no use where the router normalizes it.
    """

    def __init__(self, n_experts: int) -> None:
        super().__init__()
        self.n_experts, self.products = n_experts, 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run `func`; replace its result if it is a product with one number an expert."""
        result = func(*args, **dict(kwargs or {}))
        if func not in PRODUCTS or not isinstance(result, Tensor) or result.shape[-1:] != (self.n_experts,):
            return result
        generator = torch.Generator().manual_seed(self.products)
        self.products += 1
        return (_SPREAD * torch.randn(result.shape, generator=generator)).to(result)


@contextmanager
def _at_least_two(router: Any) -> Iterator[None]:
    """Let the router choose at least two experts inside the block, if its K is the attribute `top_k`."""
    top_k = getattr(router, "top_k", None)
    if top_k == 1:
        router.top_k = 2
    try:
        yield
    finally:
        if top_k == 1:
            router.top_k = 1


def _in_unit_interval(x: Tensor) -> bool:
    return bool(((x >= 0) & (x <= 1)).all())


def _deviation(weights_TK: Tensor, scores_TK: Tensor) -> float:
    """Deviation of the weights from proportionality to the scores, the median over tokens; 0 where they are."""
    ratio_TK = weights_TK / scores_TK
    return float((1 - ratio_TK.amin(1) / ratio_TK.amax(1)).abs().median())
