"""The papers' formulas, one file a topic: tensors in, tensors out.

Float32 and float64 keep their dtype; half precision is computed in float32 and returned in the input's dtype. Scalars
are 0-dimensional tensors; counts are Python ints. An invalid tensor (shape, NaN, k out of range, a domain without a
sample) is a ValueError of one line. The formulas of the ERC loss and the manifold loss run in every training step: they
check shapes, not values, and NaN in is NaN out. Shape suffixes: S samples, E routed experts, K chosen ones, D domains,
M members; N rows of a router, H hidden size, I expert width; B samples of a batch, k neighbors.
"""

from turnout.ops.answers import majority, pass_at_k
from turnout.ops.committee import Committee, committee, contribution, membership, min_max_scaled, ranks, released
from turnout.ops.coupling import (
    activation_norms,
    erc_cost,
    erc_loss,
    fused_activation_norms,
    gate_norms,
    noise_bound,
    proxies,
)
from turnout.ops.inequality import (
    coverage,
    coverage_topk,
    gini,
    gini_topk,
    influence_ratio,
    largest_coverage,
    lorenz,
)
from turnout.ops.neighbours import kernel_regression, kernel_weights, manifold_loss, neighbours
from turnout.ops.pairing import matrix_lengths, pairing_costs, router_orthogonality, scale_free
from turnout.ops.significance import benjamini_hochberg, holm, joint_inclusion, log_odds, wilson
from turnout.ops.similarity import (
    jaccard,
    jaccard_mean,
    labelled_silhouette,
    linear_cka,
    mean_silhouette,
    mutual_information,
    neighbour_overlap,
    rank_correlation,
    silhouette,
)
from turnout.ops.size import (
    Flops,
    Memory,
    Parameters,
    cached_numbers,
    flops,
    layer_activations,
    memory,
    optimal_experts,
    parameters,
    rule_of_thumb_flops,
    seen_keys,
    tokens_per_parameter,
)

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
    "jaccard_mean",
    "joint_inclusion",
    "kernel_regression",
    "kernel_weights",
    "labelled_silhouette",
    "largest_coverage",
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
