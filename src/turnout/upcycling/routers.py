"""Routers for experts made from a dense network, fitted layer by layer to the dense network's inputs.

The measure of a split is its *output error*: with f_e the output of expert e, f = Σ_e f_e the dense network's, and w
the weights of the K chosen experts (they sum to 1), the MoE outputs K·Σ_e w_e f_e; its squared distance from f is a
token's error, as a share of ‖f‖². It depends on the inner products of the f_e alone.

Shapes: T tokens, E experts, K chosen, H hidden size, I neurons of the dense network, W of an expert.
"""

import torch
from torch import Tensor

_RIDGES = (1e-3, 1e-2, 1e-1)  # shares of the mean square of the hidden states
_SCALES = (1.0, 0.5, 0.25, 0.12, 0.06)
_CHECKED = 0.2  # share of the tokens on which ridge and scale are selected
_STEPS, _BATCH, _RATE = 100, 1024, 1e-2  # of balancing a copy's router
_CHUNK = 512  # tokens whose expert outputs are in memory at once


def inner_products(neurons_TI: Tensor, down_HI: Tensor, groups_EW: Tensor) -> Tensor:
    """⟨f_e, f_e'⟩ on each token, [T, E, E], of the groups' outputs f_e."""
    parts = []
    for chunk_TI in neurons_TI.split(_CHUNK):
        outputs = [chunk_TI[:, group] @ down_HI[:, group].T for group in groups_EW]
        outputs_TEH = torch.stack(outputs, 1)
        parts.append(outputs_TEH @ outputs_TEH.transpose(1, 2))
    return torch.cat(parts)


def output_error(gram_TEE: Tensor, index_TK: Tensor, weight_TK: Tensor) -> float:
    """Mean over tokens of ‖f − K·Σ_k w_k f_k‖² / ‖f‖²; 0 for experts that equal the dense network."""
    top_k = index_TK.shape[1]
    factor_TE = torch.zeros(gram_TEE.shape[:2]).to(gram_TEE).scatter(1, index_TK, top_k * weight_TK)
    missing_TE = 1 - factor_TE
    error_T = torch.einsum("te,tef,tf->t", missing_TE, gram_TEE, missing_TE)
    norm_T = gram_TEE.sum((1, 2)).clamp_min(torch.finfo(gram_TEE.dtype).tiny)
    return float((error_T.clamp_min(0) / norm_T).mean())


def choose(router_EH: Tensor, x_TH: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """Experts [T, K] and weights [T, K] as the MoE's router returns them: the K largest of a softmax, summing to 1."""
    values_TK, index_TK = (x_TH @ router_EH.T).topk(top_k, dim=1)
    return index_TK, values_TK.softmax(1)


def initial_router(n_experts: int, hidden: int, std: float, generator: torch.Generator) -> Tensor:
    """Normal rows [E, H], as model families initialize their routers."""
    return torch.randn(n_experts, hidden, generator=generator) * std


def fit_split_router(x_TH: Tensor, gram_TEE: Tensor, top_k: int) -> Tensor:
    """A router [E, H] that predicts which groups contribute most to the network's output.

    Ridge regression of log ‖f_e‖, less its mean over the experts, on the hidden state. The rows' common scale does not
    change the choice; at a small scale the chosen experts get equal weights, as in MoEfication. Ridge and scale are
    selected by the output error on the last fifth of the tokens; the rows are then fitted to all tokens.
    """
    size_TE = gram_TEE.diagonal(dim1=1, dim2=2).clamp_min(torch.finfo(gram_TEE.dtype).tiny).log() / 2
    target_TE = size_TE - size_TE.mean(1, keepdim=True)
    n = len(x_TH) - max(1, round(_CHECKED * len(x_TH)))
    parts = [_normal(x_TH[part], target_TE[part]) for part in (slice(n), slice(n, None))]
    tried = {}
    for ridge in _RIDGES:
        router_EH = _solve(*parts[0], ridge)
        for scale in _SCALES:
            chosen = choose(scale * router_EH, x_TH[n:], top_k)
            tried[ridge, scale] = output_error(gram_TEE[n:], *chosen)
    ridge, scale = min(tried, key=lambda pair: tried[pair])
    return scale * _solve(parts[0][0] + parts[1][0], parts[0][1] + parts[1][1], ridge)


def _normal(x_TH: Tensor, target_TE: Tensor) -> tuple[Tensor, Tensor]:
    """Normal equations of least squares: xᵀx [H, H] and xᵀy [H, E], in float64."""
    x_TH = x_TH.double()
    return x_TH.T @ x_TH, x_TH.T @ target_TE.double()


def _solve(square_HH: Tensor, product_HE: Tensor, ridge: float) -> Tensor:
    """Rows [E, H] of the ridge regression of y on x."""
    penalty = ridge * square_HH.diagonal().mean().clamp_min(torch.finfo(torch.float64).tiny)
    penalized_HH = square_HH + penalty * torch.eye(len(square_HH)).to(square_HH)
    return torch.linalg.solve(penalized_HH, product_HE).T.float().contiguous()


def fit_copy_router(router_EH: Tensor, x_TH: Tensor, top_k: int, generator: torch.Generator) -> Tensor:
    """`router_EH` after a few steps (Adam) on the load-balancing loss E·Σ_e f_e·p̄_e / K of Switch transformers."""
    spread_H = x_TH.std(0).clamp_min(1e-6)
    scaled_TH = x_TH / spread_H
    rows_EH = (router_EH * spread_H).requires_grad_()
    optimizer = torch.optim.Adam([rows_EH], lr=_RATE)
    for _ in range(_STEPS):
        batch = torch.randint(len(x_TH), (min(len(x_TH), _BATCH),), generator=generator)
        scores = (scaled_TH[batch] @ rows_EH.T).softmax(1)
        load_E = loads(scores.topk(top_k, dim=1).indices, len(router_EH))
        loss = len(router_EH) * (load_E * scores.mean(0)).sum() / top_k
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return rows_EH.detach() / spread_H


def loads(index_TK: Tensor, n_experts: int) -> Tensor:
    """Share of tokens that choose each expert [E]; they sum to K."""
    return torch.bincount(index_TK.reshape(-1), minlength=n_experts).float() / len(index_TK)
