"""The papers' formulas, one function a file: tensors in, tensors out.

Float32 and float64 keep their dtype; half precision is computed in float32 and returned as it came. Scalars are
0-dimensional tensors; counts are Python ints. A tensor that does not fit (shape, NaN, k out of range, a domain without
a sample) is a ValueError of one line. The four of the ERC loss and the manifold loss run at every step of a training:
they check shapes, not values, and NaN in is NaN out. Shape suffixes: S samples, E routed experts, K chosen ones,
D domains, M members; N rows of a router, H hidden size, I expert width; B samples of a batch, k neighbours.
"""

from turnout.ops.activation_norms import activation_norms, fused_activation_norms
from turnout.ops.benjamini_hochberg import benjamini_hochberg
from turnout.ops.committee import Committee, committee
from turnout.ops.contribution import contribution
from turnout.ops.coverage import coverage
from turnout.ops.coverage_topk import coverage_topk
from turnout.ops.erc_cost import erc_cost
from turnout.ops.erc_loss import erc_loss
from turnout.ops.flops import Flops, flops, rule_of_thumb_flops, seen_keys
from turnout.ops.gate_norms import gate_norms
from turnout.ops.gini import gini
from turnout.ops.gini_topk import gini_topk
from turnout.ops.holm import holm
from turnout.ops.influence_ratio import influence_ratio
from turnout.ops.jaccard import jaccard
from turnout.ops.joint_inclusion import joint_inclusion
from turnout.ops.kernel_regression import kernel_regression
from turnout.ops.kernel_weights import kernel_weights
from turnout.ops.linear_cka import linear_cka
from turnout.ops.log_odds import log_odds
from turnout.ops.lorenz import lorenz
from turnout.ops.majority import majority
from turnout.ops.manifold_loss import manifold_loss
from turnout.ops.membership import membership
from turnout.ops.memory import Memory, cached_numbers, layer_activations, memory
from turnout.ops.mutual_information import mutual_information
from turnout.ops.neighbour_overlap import neighbour_overlap
from turnout.ops.neighbours import neighbours
from turnout.ops.noise_bound import noise_bound
from turnout.ops.optimal_experts import optimal_experts
from turnout.ops.pairing_costs import pairing_costs
from turnout.ops.parameters import Parameters, parameters
from turnout.ops.pass_at_k import pass_at_k
from turnout.ops.proxies import proxies
from turnout.ops.rank_correlation import rank_correlation
from turnout.ops.ranks import ranks
from turnout.ops.released import min_max_scaled, released
from turnout.ops.router_orthogonality import router_orthogonality
from turnout.ops.scale_free import matrix_lengths, scale_free
from turnout.ops.silhouette import labelled_silhouette, mean_silhouette, silhouette
from turnout.ops.tokens_per_parameter import tokens_per_parameter
from turnout.ops.wilson import wilson

__all__ = [
    "Committee",
    "Flops",
    "Memory",
    "Parameters",
    "activation_norms",
    "benjamini_hochberg",
    "cached_numbers",
    "committee",
    "contribution",
    "coverage",
    "coverage_topk",
    "erc_cost",
    "erc_loss",
    "flops",
    "fused_activation_norms",
    "gate_norms",
    "gini",
    "gini_topk",
    "holm",
    "influence_ratio",
    "jaccard",
    "joint_inclusion",
    "kernel_regression",
    "kernel_weights",
    "labelled_silhouette",
    "layer_activations",
    "linear_cka",
    "log_odds",
    "lorenz",
    "majority",
    "manifold_loss",
    "matrix_lengths",
    "mean_silhouette",
    "membership",
    "memory",
    "min_max_scaled",
    "mutual_information",
    "neighbour_overlap",
    "neighbours",
    "noise_bound",
    "optimal_experts",
    "pairing_costs",
    "parameters",
    "pass_at_k",
    "proxies",
    "rank_correlation",
    "ranks",
    "released",
    "router_orthogonality",
    "rule_of_thumb_flops",
    "scale_free",
    "seen_keys",
    "silhouette",
    "tokens_per_parameter",
    "wilson",
]
