"""What each column of a run's tables holds, in words: the dictionary that goes out with an export."""

_LAYER = "the decoder layer's own number, from 0"
_EXPERT = "routed expert of the layer, from 0"
_DOMAIN = "name of the domain"
_TYPE = "token id"
_KINDS = {
    "gate": "mean routing score of the expert over the domain's samples",
    "frequency": "share of the domain's samples (at scope all: of their tokens) that chose the expert",
    "weight": "mean weight that the model applied to the expert, 0 where not chosen",
    "released": "the paper's released code: scaled applied weight, averaged, times frequency",
}
_COUNTED = {
    "count": "how many tokens",
    "committee": "their selections of committee members (a token makes one selection for each expert it chooses)",
    "periphery": "their selections of other experts",
    "rate": "committee / (committee + periphery)",
}
_SHARE = {"share": "part of all the committee's selections (there) that are this type's"}

TABLES: dict[str, str] = {
    "contribution": "how much each expert contributes in each domain, in four readings",
    "ranks": "each expert's rank by contribution in each domain",
    "experts": "each expert over all domains: what makes it a candidate or member",
    "jaccard": "how alike two domains' first K experts are",
    "lorenz": "cumulated share of contribution, poorest experts first",
    "silhouette": "how much each sample's routing is its own domain's",
    "samples": "what was asked",
    "tokens": "token types that occur",
    "token_domains": "how each token type is bound to the committee, by layer and domain; those that occur 5 times",
    "token_layers": "the same over all domains",
    "token_classes": "the same by class of token",
    "atlas": "how much each expert is chosen, over all tokens",
    "atlas_domains": "where each expert's tokens come from",
    "atlas_tokens": "each expert's first tokens, by log-odds and by count",
    "atlas_partners": "which experts are chosen together, against chance",
}

COLUMNS: dict[str, dict[str, str]] = {
    "contribution": {"layer": _LAYER, "domain": _DOMAIN, "expert": _EXPERT, **_KINDS},
    "ranks": {
        "layer": _LAYER,
        "domain": _DOMAIN,
        "expert": _EXPERT,
        "rank": "1 is the largest contribution; K + 1 outside the first K",
    },
    "experts": {
        "layer": _LAYER,
        "expert": _EXPERT,
        "mean_rank": "mean of the rank over domains",
        "rank_variance": "population variance of the rank over domains",
        "presence": "share of domains whose first K hold the expert",
        "candidate": "present in enough domains",
        "member": "in the committee: no candidate has both a smaller mean and a smaller variance of rank",
        "share": "part of all contribution, mean over domains",
        "candidate_stability": "share of bootstrap resamples in which it is a candidate",
        "member_stability": "share of bootstrap resamples in which it is a member",
    },
    "jaccard": {
        "layer": _LAYER,
        "domain_a": "one domain",
        "domain_b": "the other domain",
        "jaccard": "size of the intersection of their first K experts over the size of the union",
    },
    "lorenz": {
        "layer": _LAYER,
        "position": "how many experts, poorest first",
        "share": "part of all contribution that they hold together",
    },
    "silhouette": {
        "layer": _LAYER,
        "index": "the sample's place in the run",
        "silhouette": "−1 to 1; above 0 where the sample is nearer to its own domain than to another",
    },
    "samples": {
        "index": "the sample's place in the run",
        "id": "the sample's name",
        "subject": "what it was filed under",
        "domain": _DOMAIN,
        "n_tokens": "tokens of the prompt",
        "answer": "the right choice, from 0; empty where nobody says",
        "predicted": "the model's choice, from 0; empty where no answer was read",
        "correct": "whether the two are the same",
    },
    "tokens": {
        "token": _TYPE,
        "text": "as it stands inside a line: a space before what begins a word",
        "class": "function, content, piece, number, punctuation, space or special",
        "count": "how often it occurs",
        "samples": "in how many samples it occurs",
    },
    "token_domains": {
        "layer": _LAYER,
        "domain": _DOMAIN,
        "token": _TYPE,
        **_COUNTED,
        **_SHARE,
        "base": "rate over all tokens of the domain in this layer",
        "log_odds": "log-odds of the type among the committee's selections against the periphery's, with a prior",
        "z": "log_odds over its standard error; takes selections as independent",
        "q": "two-sided p of z, adjusted for all types tested in this layer and domain (Benjamini–Hochberg)",
        "bound": "committee or periphery where q is at most 0.05; empty where bound to neither",
    },
    "token_layers": {
        "layer": _LAYER,
        "token": _TYPE,
        **_COUNTED,
        **_SHARE,
        "committee_domains": "domains in which it is bound to the committee",
        "periphery_domains": "domains in which it is bound to the periphery",
        "invariant": "the side it is bound to in three domains or more; empty where neither or both",
    },
    "token_classes": {"layer": _LAYER, "domain": _DOMAIN, "class": "class of token", **_COUNTED},
    "atlas": {
        "layer": _LAYER,
        "expert": _EXPERT,
        "count": "tokens that chose it",
        "frequency": "their share of all tokens",
        "types": "token types among them; empty where the run has no token ids",
    },
    "atlas_domains": {
        "layer": _LAYER,
        "expert": _EXPERT,
        "domain": _DOMAIN,
        "count": "tokens of the domain that chose it",
        "share": "their part of all tokens that chose it",
        "lift": "share of the domain's tokens that chose it, over the share of all tokens",
    },
    "atlas_tokens": {
        "layer": _LAYER,
        "expert": _EXPERT,
        "by": "log_odds or count: what the order is by",
        "rank": "place in that order, from 1",
        "token": _TYPE,
        "count": "how often the type chose this expert",
        "share": "part of the expert's tokens",
        "log_odds": "log-odds of the type with this expert against all others, with a prior",
        "z": "log_odds over its standard error; takes tokens as independent",
    },
    "atlas_partners": {
        "layer": _LAYER,
        "expert": _EXPERT,
        "relation": "same layer, previous MoE layer, or earlier than that",
        "rank": "place by z among the partners of this relation, from 1",
        "partner_layer": "the partner's layer",
        "partner": "the partner",
        "together": "tokens that chose both",
        "expected": "as many as chance would have, given how often each is chosen",
        "lift": "together / expected",
        "z": "(together − expected) over its standard deviation by chance; takes tokens as independent",
        "tokens": "how many tokens were looked at",
    },
}
