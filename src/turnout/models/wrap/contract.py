"""The router contract, and the probe that checks a model against it: module names, then a forward of a few tokens.

The contract (transformers ≥ 5.8): every fused experts module has a router as a sibling, which is called once per
forward and returns (logits [T, E], weights [T, K], indices [T, K]), T being batch · length flattened.

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
from turnout.models.wrap.families import Scoring
from turnout.models.wrap.scoring import scoring_of

EXPECTED = "a router returning (logits[T,E], weights[T,K], indices[T,K])"
ONE_CALL = "one call of its router in a forward"
_ROWS, _LENGTH = 2, 16  # shape of the probe's token ids: two rows with the same first half
_CAUSAL_TOLERANCE = 0.05  # in standard deviations of the logits; other tokens change them by several of those


@dataclass(frozen=True)
class Candidate:
    """A fused experts module in a decoder layer, and its sibling modules, one of which is its router."""

    layer: int
    experts_name: str
    n_experts: int
    decoder_layer_name: str
    siblings: tuple[str, ...]


@dataclass(frozen=True)
class ProbedRouter:
    """A router that keeps the contract, with the logits that it returned in the probe."""

    candidate: Candidate
    router_name: str
    top_k: int
    scoring: Scoring
    logits_TE: Tensor


@dataclass
class _ProbeState:
    """Routers that kept the contract, in the order of their calls; experts without one; violations by experts' name."""

    model_type: str
    pending: dict[str, Candidate]
    routers: list[ProbedRouter] = field(default_factory=list)
    violations: dict[str, str] = field(default_factory=dict)


class _StopForward(Exception):  # noqa: N818  not an error: ends the forward
    """Ends the probe's forward after the last router."""


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Disable dropout and gradients inside the block; restore each module's mode after it."""
    with in_evaluation_mode(model), torch.no_grad():
        yield


@contextmanager
def in_evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Disable dropout inside the block; restore each module's mode after it."""
    training = [m for m in model.modules() if m.training]
    if training:
        model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def probe(model: PreTrainedModel, name: str) -> list[ProbedRouter]:
    """The routers of a model, one for each MoE layer, in the order in which a token passes them.

    Raises:
        ModelError: a dense model, or a router that does not keep the contract; the message begins with `name`.
    """
    if model.config.is_encoder_decoder:
        raise ModelError(name, expected="a decoder-only MoE", received=f"{type(model).__name__}, an encoder-decoder")
    experts = candidates(model)
    if not experts:
        raise ModelError(name, expected="a Mixture-of-Experts model with fused experts", received=_describe(model))
    single = next((candidate.layer for candidate in experts if candidate.n_experts < 2), None)
    if single is not None:
        raise ModelError(f"{name}: layer {single}", expected="at least two experts to choose among", received="one")
    state = _run(model, experts, name)
    if state.pending:
        key, candidate = next(iter(state.pending.items()))
        received = state.violations.get(key, "no router beside the experts that was called in a forward")
        raise ModelError(
            f"{name}: layer {candidate.layer} ({type(model).__name__})", expected=EXPECTED, received=received
        )
    if not _is_causal(state.routers[-1].logits_TE):
        raise ModelError(
            name, expected="a causal model", received="routing of a token that changes with the tokens after it"
        )
    return state.routers


def contract_violation(output: object, n_tokens: int, n_experts: int) -> str | None:
    """How a router's output for T = `n_tokens` and E = `n_experts` departs from the contract; None if it keeps it."""
    if not isinstance(output, tuple) or len(output) != 3 or not all(isinstance(o, Tensor) for o in output):
        return _shapes(output)
    logits, weights, indices = output
    valid = (
        logits.shape == (n_tokens, n_experts)
        and weights.ndim == 2
        and weights.shape == indices.shape
        and len(weights) == n_tokens
        and 0 < weights.shape[1] <= n_experts
        and logits.is_floating_point()
        and weights.is_floating_point()
        and indices.dtype in (torch.int32, torch.int64)
    )
    if not valid:
        return f"{_shapes(output)} with T = {n_tokens}, E = {n_experts}"
    low, high = int(indices.min()), int(indices.max())
    if low < 0 or high >= n_experts:
        return f"indices from {low} to {high} with E = {n_experts}"
    repeated = bool((indices.sort(-1).values.diff(dim=-1) == 0).any())
    return "a token that chooses an expert twice" if repeated else None


def candidates(model: nn.Module) -> list[Candidate]:
    """Every fused experts module inside a numbered layer, in the order of the model's modules."""
    result = []
    for name, module in model.named_modules():
        n_experts, numbers = _n_fused(module), list(re.finditer(r"(?<=\.)\d+(?=\.)", name))
        if n_experts is None or not numbers:
            continue
        parent = name.rpartition(".")[0]
        siblings = [f"{parent}.{child}" for child, m in model.get_submodule(parent).named_children() if m is not module]
        layer = numbers[-1]
        result.append(Candidate(int(layer.group()), name, n_experts, name[: layer.end()], tuple(siblings)))
    return result


def _n_fused(module: nn.Module) -> int | None:
    """E of a fused experts module, whose own `down_proj` and `gate_up_proj` or `up_proj` are 3-D; None for others."""
    own = module._parameters
    down, up = own.get("down_proj"), own.get("gate_up_proj", own.get("up_proj"))
    if down is None or up is None or down.ndim != 3 or up.ndim != 3 or len(down) != len(up):
        return None
    return len(down)


def _run(model: PreTrainedModel, experts: list[Candidate], name: str) -> _ProbeState:
    """Run two rows of tokens through `model`, with a hook on every sibling of the experts, up to the last router."""
    state = _ProbeState(model.config.get_text_config().model_type, {c.experts_name: c for c in experts})
    handles = [
        model.get_submodule(sibling).register_forward_hook(_hook(state, candidate, sibling), with_kwargs=True)
        for candidate in experts
        for sibling in candidate.siblings
    ]
    vocabulary = model.config.get_text_config().vocab_size
    ids = torch.randint(vocabulary, (_ROWS, _LENGTH), generator=torch.Generator().manual_seed(0))
    ids[1, : _LENGTH // 2] = ids[0, : _LENGTH // 2]
    try:
        with evaluating(model):
            model(input_ids=ids.to(model.get_input_embeddings().weight.device), use_cache=False)
    except _StopForward:
        return state
    except Exception as error:  # anything that a model's own code raises
        received = f"{type(error).__name__}: {error}"
        raise ModelError(name, expected=f"a forward of {_ROWS} × {_LENGTH} token ids", received=received) from error
    finally:
        for handle in handles:
            handle.remove()
    return state


def _hook(state: _ProbeState, candidate: Candidate, name: str) -> Any:
    """A forward hook that checks what the module `name` returns. Its own return value is None: the output stays."""

    def check(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: object) -> None:
        key = candidate.experts_name
        violation = contract_violation(output, _ROWS * _LENGTH, candidate.n_experts)
        if key in state.pending and violation is None and isinstance(output, tuple):
            finite = bool(output[0].isfinite().all())
            scoring = scoring_of(state.model_type, module, args, kwargs, output) if finite else None
            if scoring:
                state.routers.append(ProbedRouter(candidate, name, output[1].shape[1], scoring, output[0]))
                del state.pending[key]
            other = "weights proportional neither to softmax nor to sigmoid of the logits, and no scores in their place"
            violation = other if finite else "logits with NaN or infinity where finite ones are needed"
        if isinstance(output, tuple) or "rout" in name:
            state.violations.setdefault(key, f"{name.rpartition('.')[2]} returning {violation}")
        if not state.pending:
            raise _StopForward

    return check


def _is_causal(logits_TE: Tensor) -> bool:
    """Whether the two rows' logits agree where their tokens and all tokens before are the same."""
    first, second = logits_TE.float().view(_ROWS, _LENGTH, -1)[:, : _LENGTH // 2]
    spread = logits_TE.float().std().clamp_min(1e-30)
    return bool(((first - second).abs().amax(-1) / spread).median() <= _CAUSAL_TOLERANCE)


def _describe(model: nn.Module) -> str:
    """The model's class, and whether it is dense or has experts of a form that this package cannot read."""
    name = next((n for n, _ in model.named_modules() if re.search(r"expert|router|moe", n.rpartition(".")[2])), None)
    kind = type(model).__name__
    return f"{kind}, a dense model" if name is None else f"{kind}, without fused experts near {name!r}"


def _shapes(output: object) -> str:
    if isinstance(output, Tensor):
        return f"{str(output.dtype).removeprefix('torch.')}{list(output.shape)}"
    if isinstance(output, tuple):
        return f"({', '.join(map(_shapes, output))})"
    return type(output).__name__
