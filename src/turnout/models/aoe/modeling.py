"""AoE, Autonomy of Experts (arXiv 2501.13074): a MoE without router weights; experts are chosen by activation norm.

Everything but the MoE layer is transformers' OLMoE. Expert j's gate matrix is a product of two, W_down^j [H, r] and
W_up^j [r, I]. All experts compute x W_down^j; the K with the largest norms are chosen, with a softmax of the norms as
weights:

    Σ over the chosen j of  softmax(n)_j · (SiLU(x W_down^j W_up^j) ⊙ x W_p^j) W_o^j,     n_j = ‖x W_down^j‖₂

The softmax is over all E norms, as in arXiv 2512.23447, section 2, and in the authors' code
(github.com/trestad/Autonomy-of-Experts, AoE.py). So n takes the place of router logits, and p = softmax(n) that of
router scores, in the load-balancing loss and in everything that Turnout measures. Every matrix is initialized as
N(0, initializer_range²), as in that code.

Shapes: T tokens, H hidden size, E experts, K chosen experts per token, I expert width, r rank of a gate, R rows:
(token, choice) pairs sorted by expert, O outputs of a matrix.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.models.olmoe.modeling_olmoe import (
    OlmoeAttention,
    OlmoeDecoderLayer,
    OlmoeForCausalLM,
    OlmoeModel,
    OlmoePreTrainedModel,
    OlmoeRMSNorm,
    OlmoeRotaryEmbedding,
)
from transformers.utils.output_capturing import OutputRecorder

from turnout.models.aoe.configuration import AoeConfig
from turnout.models.fast.products import linear


@dataclass(eq=False)
class InnerStates:
    """x W_down of all experts, [T, E, r], passed from the router to the chosen experts."""

    inner_TEr: Tensor | None = None


class AoeRouter(nn.Module):
    """The experts' first matrices and the choice by the norm of their products; keeps the contract of a router.

    `weight` [E, r, H] contains every W_down, transposed. These parameters are the experts'; they are here because the
    choice needs the products of all of them.
    """

    def __init__(self, config: AoeConfig) -> None:
        super().__init__()
        assert config.expert_rank is not None  # the configuration fills it in
        self.top_k = config.num_experts_per_tok
        self.norm_topk_prob = config.norm_topk_prob
        self.weight = nn.Parameter(torch.empty(config.num_experts, config.expert_rank, config.hidden_size))

    def forward(self, hidden_states: Tensor, inner: InnerStates | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Norms [T, E] in at least float32, weights [T, K] and indices [T, K], from hidden states [..., H].

        The vectors whose norms these are go into `inner`, if given.
        """
        n_experts, rank, hidden_size = self.weight.shape
        hidden_TH = hidden_states.reshape(-1, hidden_size)
        inner_TEr = linear(hidden_TH, self.weight.flatten(0, 1)).view(-1, n_experts, rank)
        if inner is not None:
            inner.inner_TEr = inner_TEr
        exact = torch.promote_types(inner_TEr.dtype, torch.float32)
        norm_TE = torch.linalg.vector_norm(inner_TEr, dim=-1, dtype=exact)
        weight_TK, index_TK = torch.topk(norm_TE.softmax(-1), self.top_k, dim=-1)
        if self.norm_topk_prob:
            weight_TK = weight_TK / weight_TK.sum(-1, keepdim=True)
        return norm_TE, weight_TK.to(hidden_TH.dtype), index_TK


class AoeExperts(nn.Module):
    """The rest of all experts: `gate_proj` [E, I, r] is W_up, `up_proj` [E, I, H] W_p, `down_proj` [E, H, I] W_o."""

    def __init__(self, config: AoeConfig) -> None:
        super().__init__()
        assert config.expert_rank is not None
        n_experts, width, hidden_size = config.num_experts, config.intermediate_size, config.hidden_size
        self.num_experts = n_experts
        self.gate_proj = nn.Parameter(torch.empty(n_experts, width, config.expert_rank))
        self.up_proj = nn.Parameter(torch.empty(n_experts, width, hidden_size))
        self.down_proj = nn.Parameter(torch.empty(n_experts, hidden_size, width))
        self.act_fn = ACT2FN[config.hidden_act]

    def forward(self, hidden_TH: Tensor, index_TK: Tensor, weight_TK: Tensor, inner_TEr: Tensor) -> Tensor:
        """Output [T, H] of the chosen experts, from x W_down as the router computed it."""
        expert_R, order_R = torch.sort(index_TK.reshape(-1), stable=True)
        sizes_E = torch.bincount(expert_R, minlength=self.num_experts).tolist()
        token_R = order_R // index_TK.shape[1]
        inner = inner_TEr.flatten(0, 1).index_select(0, token_R * self.num_experts + expert_R)
        gate = _products(inner, self.gate_proj, sizes_E)
        up = _products(hidden_TH.index_select(0, token_R), self.up_proj, sizes_E)
        out = _products(self.act_fn(gate) * up, self.down_proj, sizes_E)
        out = out * weight_TK.reshape(-1, 1).index_select(0, order_R)
        placed = out.new_zeros(out.shape).index_copy(0, order_R, out)
        return placed.view(*index_TK.shape, -1).sum(1).to(hidden_TH.dtype)


class AoeSparseMoeBlock(nn.Module):
    """One MoE layer."""

    def __init__(self, config: AoeConfig) -> None:
        super().__init__()
        self.gate = AoeRouter(config)
        self.experts = AoeExperts(config)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Weighted sum of the chosen experts' outputs, of the shape of the hidden states [..., H]."""
        hidden_TH = hidden_states.reshape(-1, hidden_states.shape[-1])
        inner = InnerStates()
        _, weight_TK, index_TK = self.gate(hidden_TH, inner)
        return self.experts(hidden_TH, index_TK, weight_TK, inner.inner_TEr).view_as(hidden_states)


class AoeDecoderLayer(OlmoeDecoderLayer):  # type: ignore[misc]  # Any: transformers ships no types
    """OLMoE's decoder layer around an AoE block."""

    def __init__(self, config: AoeConfig, layer_idx: int) -> None:
        super().__init__(config, layer_idx)
        self.mlp = AoeSparseMoeBlock(config)


class AoePreTrainedModel(OlmoePreTrainedModel):  # type: ignore[misc]
    """The family's settings for transformers, and its initialization."""

    config: AoeConfig
    _no_split_modules = ["AoeDecoderLayer"]
    _can_compile_fullgraph = False  # the number of rows of an expert depends on the data
    _can_record_outputs = {
        "router_logits": OutputRecorder(AoeRouter, index=0),
        "hidden_states": AoeDecoderLayer,
        "attentions": OlmoeAttention,
    }

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, AoeRouter | AoeExperts):
            for parameter in module.parameters():
                init.normal_(parameter, mean=0.0, std=self.config.initializer_range)


class AoeModel(AoePreTrainedModel, OlmoeModel):  # type: ignore[misc]
    """The decoder without language-model head."""

    def __init__(self, config: AoeConfig) -> None:
        OlmoePreTrainedModel.__init__(self, config)  # OlmoeModel's own would create OLMoE's routers and experts
        self.padding_idx, self.vocab_size = config.pad_token_id, config.vocab_size
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.layers = nn.ModuleList(AoeDecoderLayer(config, i) for i in range(config.num_hidden_layers))
        self.norm = OlmoeRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary_emb = OlmoeRotaryEmbedding(config=config)
        self.gradient_checkpointing = False
        self.post_init()


class AoeForCausalLM(AoePreTrainedModel, OlmoeForCausalLM):  # type: ignore[misc]
    """A causal language model: OLMoE's, auxiliary loss included, but for the MoE layers."""

    def __init__(self, config: AoeConfig) -> None:
        OlmoePreTrainedModel.__init__(self, config)
        self.model = AoeModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.router_aux_loss_coef = config.router_aux_loss_coef
        self.num_experts, self.num_experts_per_tok = config.num_experts, config.num_experts_per_tok
        self.post_init()


def _products(rows: Tensor, matrices_EOI: Tensor, sizes_E: list[int]) -> Tensor:
    """Each expert's rows times its matrix, [R, O]."""
    # split and unbind: the gradient of an index or slice is as large as the whole tensor, for each expert
    parts = zip(rows.split(sizes_E), matrices_EOI.unbind(0), strict=True)
    products = [linear(part, matrix) for part, matrix in parts if len(part)]
    return torch.cat(products) if products else rows.new_zeros(0, matrices_EOI.shape[1])
