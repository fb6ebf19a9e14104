"""Does a model keep the router contract? Found by looking at its modules and running a few tokens through it.

The contract (transformers ≥ 5.8): beside every fused experts module stands a router that is called once in a forward
and returns (logits [T, E], weights [T, K], indices [T, K]), T being batch · length flattened.

Shapes: T tokens, E routed experts, K experts chosen a token.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from turnout.errors import ModelError
from turnout.models.wrap.families import DEPARTURES, Scoring

EXPECTED = "a router returning (logits[T,E], weights[T,K], indices[T,K])"
_ROWS, _LENGTH = 2, 16  # of the probe: two rows that share their first half
_SPREAD = 2.0  # standard deviation of the logits at which softmax and sigmoid are told apart
_TOLERANCE = 0.03  # of proportionality; bfloat16 rounds a weight to 0.4 %
_CAUSAL_TOLERANCE = 0.05  # of logits; other tokens change them by a multiple of their spread


@dataclass(frozen=True)
class Candidate:
    """A fused experts module in a decoder layer, and the modules beside it, one of which is its router."""

    layer: int
    experts_name: str
    n_experts: int
    decoder_layer_name: str
    beside: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """A candidate whose router keeps the contract."""

    candidate: Candidate
    router_name: str
    top_k: int
    scoring: Scoring
    logits_TE: Tensor


@dataclass
class _Hearing:
    """The probe's state: who has kept the contract so far, in order of speaking, and what was wrong with the others."""

    model_type: str
    open: dict[str, Candidate]
    verdicts: list[Verdict] = field(default_factory=list)
    complaints: dict[str, str] = field(default_factory=dict)


class _LastRouterSpoke(Exception):  # noqa: N818  not an error: the way out of a forward
    """Raised from a hook: nothing after the last router matters to the probe."""


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Neither dropout nor gradients inside; the mode of each module is restored."""
    with in_evaluation_mode(model), torch.no_grad():
        yield


@contextmanager
def in_evaluation_mode(model: nn.Module) -> Iterator[None]:
    """No dropout inside; the mode of each module is restored."""
    training = [m for m in model.modules() if m.training]
    if training:
        model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def probe(model: PreTrainedModel, name: str) -> list[Verdict]:
    """One verdict for each MoE layer, in the order in which a token passes them.

    Raises:
        ModelError: a dense model, or a router that does not keep the contract; `name` is what the message is about.
    """
    if model.config.is_encoder_decoder:
        raise ModelError(name, expected="a decoder-only MoE", received=f"{type(model).__name__}, an encoder-decoder")
    found = candidates(model)
    if not found:
        raise ModelError(name, expected="a Mixture-of-Experts model with fused experts", received=_what_it_is(model))
    alone = next((candidate.layer for candidate in found if candidate.n_experts < 2), None)
    if alone is not None:
        raise ModelError(f"{name}: layer {alone}", expected="two experts at least, to choose among", received="one")
    hearing = _run(model, found, name)
    heard = {verdict.candidate.experts_name for verdict in hearing.verdicts}
    for candidate in found:
        if candidate.experts_name not in heard:
            received = hearing.complaints.get(
                candidate.experts_name, "no router beside the experts that spoke in a forward"
            )
            raise ModelError(
                f"{name}: layer {candidate.layer} ({type(model).__name__})", expected=EXPECTED, received=received
            )
    if not _is_causal(hearing.verdicts[-1].logits_TE):
        raise ModelError(
            name, expected="a causal model", received="routing of a token that changes with the tokens after it"
        )
    return hearing.verdicts


def complaint(output: object, n_tokens: int, n_experts: int) -> str | None:
    """What is wrong with a router's output for `n_tokens` tokens and `n_experts` experts; None if it is as agreed."""
    if not isinstance(output, tuple) or len(output) != 3 or not all(isinstance(o, Tensor) for o in output):
        return _shapes(output)
    logits, weights, indices = output
    right = (
        logits.shape == (n_tokens, n_experts)
        and weights.ndim == 2
        and weights.shape == indices.shape
        and len(weights) == n_tokens
        and 0 < weights.shape[1] <= n_experts
        and logits.is_floating_point()
        and weights.is_floating_point()
        and indices.dtype in (torch.int32, torch.int64)
    )
    if not right:
        return f"{_shapes(output)} with T = {n_tokens}, E = {n_experts}"
    low, high = int(indices.min()), int(indices.max())
    if low < 0 or high >= n_experts:
        return f"indices from {low} to {high} with E = {n_experts}"
    twice = bool((indices.sort(-1).values.diff(dim=-1) == 0).any())
    return "a token that chooses an expert twice" if twice else None


def candidates(model: nn.Module) -> list[Candidate]:
    """Every fused experts module inside a numbered layer, in the order of the model's modules."""
    found = []
    for name, module in model.named_modules():
        n_experts, numbered = _n_fused(module), list(re.finditer(r"(?<=\.)\d+(?=\.)", name))
        if n_experts is None or not numbered:
            continue
        parent = name.rpartition(".")[0]
        beside = [f"{parent}.{child}" for child, m in model.get_submodule(parent).named_children() if m is not module]
        layer = numbered[-1]
        found.append(Candidate(int(layer.group()), name, n_experts, name[: layer.end()], tuple(beside)))
    return found


def _n_fused(module: nn.Module) -> int | None:
    """E of a fused experts module, whose own `down_proj` and `gate_up_proj` or `up_proj` are 3-D; None for others."""
    own = module._parameters
    down, up = own.get("down_proj"), own.get("gate_up_proj", own.get("up_proj"))
    if down is None or up is None or down.ndim != 3 or up.ndim != 3 or len(down) != len(up):
        return None
    return len(down)


def _run(model: PreTrainedModel, found: list[Candidate], name: str) -> _Hearing:
    """Two rows of tokens through `model`, listening to whatever stands beside the experts, until all routers spoke."""
    hearing = _Hearing(model.config.get_text_config().model_type, {c.experts_name: c for c in found})
    handles = [
        model.get_submodule(beside).register_forward_hook(_listener(hearing, candidate, beside), with_kwargs=True)
        for candidate in found
        for beside in candidate.beside
    ]
    vocabulary = model.config.get_text_config().vocab_size
    ids = torch.randint(vocabulary, (_ROWS, _LENGTH), generator=torch.Generator().manual_seed(0))
    ids[1, : _LENGTH // 2] = ids[0, : _LENGTH // 2]
    try:
        with evaluating(model):
            model(input_ids=ids.to(model.get_input_embeddings().weight.device), use_cache=False)
    except _LastRouterSpoke:
        return hearing
    except Exception as error:  # whatever a model's own code raises
        received = f"{type(error).__name__}: {error}"
        raise ModelError(name, expected=f"a forward of {_ROWS} × {_LENGTH} token ids", received=received) from error
    finally:
        for handle in handles:
            handle.remove()
    return hearing


def _listener(hearing: _Hearing, candidate: Candidate, name: str) -> Any:
    """A forward hook that judges what the module `name` returns. It returns nothing: that would replace the output."""

    def listen(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: object) -> None:
        key = candidate.experts_name
        wrong = complaint(output, _ROWS * _LENGTH, candidate.n_experts)
        if key in hearing.open and wrong is None and isinstance(output, tuple):
            scoring = _scoring(hearing.model_type, module, args, kwargs, output)
            if scoring:
                hearing.verdicts.append(Verdict(candidate, name, output[1].shape[1], scoring, output[0]))
                del hearing.open[key]
            finite = bool(output[0].isfinite().all())
            other = "weights proportional neither to softmax nor to sigmoid of the logits"
            wrong = other if finite else "logits with NaN or infinity where finite ones are needed"
        if isinstance(output, tuple) or "rout" in name:
            hearing.complaints.setdefault(key, f"{name.rpartition('.')[2]} returning {wrong}")
        if not hearing.open:
            raise _LastRouterSpoke

    return listen


def _scoring(
    model_type: str, router: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: tuple[Tensor, ...]
) -> Scoring | None:
    """Softmax or sigmoid: whichever the weights of the chosen experts are proportional to, token by token.

    Small logits leave the two alike and a single choice has nothing to be proportional to, so the router is asked again
    with its input scaled to logits of some spread, and for two experts where it chooses one.
    """
    if model_type in DEPARTURES:
        return DEPARTURES[model_type].scoring
    spread = float(output[0].float().std())
    if args and spread > 0:
        with _at_least_two(router):
            output = router.forward(args[0] * (_SPREAD / spread), *args[1:], **kwargs)
    logits_TE, weights_TK, indices_TK = (o.float() if o.is_floating_point() else o for o in output)
    if weights_TK.shape[1] < 2:
        return None
    deviation: dict[Scoring, float] = {
        "softmax": _deviation(weights_TK, logits_TE.softmax(-1).gather(1, indices_TK.long())),
        "sigmoid": _deviation(weights_TK, logits_TE.sigmoid().gather(1, indices_TK.long())),
    }
    best = min(deviation, key=lambda scoring: deviation[scoring])
    return best if deviation[best] <= _TOLERANCE else None


@contextmanager
def _at_least_two(router: Any) -> Iterator[None]:
    """The router chooses at least two experts inside, if it keeps its K as `top_k`."""
    top_k = getattr(router, "top_k", None)
    if top_k == 1:
        router.top_k = 2
    try:
        yield
    finally:
        if top_k == 1:
            router.top_k = 1


def _deviation(weights_TK: Tensor, scores_TK: Tensor) -> float:
    """How far the weights are from proportional to the scores: 0 if they are; the median over tokens."""
    ratio_TK = weights_TK / scores_TK
    return float((1 - ratio_TK.amin(1) / ratio_TK.amax(1)).abs().median())


def _is_causal(logits_TE: Tensor) -> bool:
    """Whether the two rows' logits agree where their tokens and all tokens before are the same."""
    first, second = logits_TE.float().view(_ROWS, _LENGTH, -1)[:, : _LENGTH // 2]
    spread = logits_TE.float().std().clamp_min(1e-30)
    return bool(((first - second).abs().amax(-1) / spread).median() <= _CAUSAL_TOLERANCE)


def _what_it_is(model: nn.Module) -> str:
    """A dense model, or one whose experts are of a form that this package cannot read."""
    name = next((n for n, _ in model.named_modules() if re.search(r"expert|router|moe", n.rpartition(".")[2])), None)
    kind = type(model).__name__
    return f"{kind}, a dense model" if name is None else f"{kind}, without fused experts near {name!r}"


def _shapes(output: object) -> str:
    if isinstance(output, Tensor):
        return f"{str(output.dtype).removeprefix('torch.')}{list(output.shape)}"
    if isinstance(output, tuple):
        return f"({', '.join(map(_shapes, output))})"
    return type(output).__name__
