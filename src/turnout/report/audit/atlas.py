"""Tokens and experts as data: the token types bound to a layer's committee, and the tokens and partners of each expert.

None or empty where the run has no such tables. Shapes: L MoE layers, E experts of the widest layer, N entries of a
list, R relations.
"""

from typing import Any

import numpy as np
import polars as pl

from turnout.report.audit.stored import Floats, StoredRun

TOKENS = 6
"""Tokens shown for each expert."""
PARTNERS = 3
"""Partners shown for each expert and relation."""
TYPES = 10
"""Token types shown for each side of a layer."""
RELATIONS = ("same", "previous", "earlier")


def vocabulary(run: StoredRun) -> dict[int, str]:
    """The text of each token type, or #ID where the run has no texts."""
    if "tokens" not in run.tables:
        return {}
    rows = run.tables["tokens"].select("token", "text").rows()
    return {token: f"#{token}" if text is None else text for token, text in rows}


def bound_tokens(run: StoredRun, layer: int) -> dict[str, list[list[Any]]] | None:
    """A layer's domain-invariant token types: {"committee": [[text, rate, domains, count], …], "periphery": […]}.

    Sorted by the number of domains in which a type is bound, then by frequency. `rate` is the share of the type's
    selections that are committee members.
    """
    if "token_layers" not in run.tables:
        return None
    table, texts = run.tables["token_layers"].filter(pl.col("layer") == layer), vocabulary(run)
    sides = {}
    for side in ("committee", "periphery"):
        domains = f"{side}_domains"
        bound = table.filter(pl.col("invariant") == side)
        first = bound.sort([domains, "count", "token"], descending=[True, True, False]).head(TYPES)
        rows = first.select("token", "rate", domains, "count").rows()
        sides[side] = [[texts.get(token, f"#{token}"), rate, n, count] for token, rate, n, count in rows]
    return sides


def token_classes(run: StoredRun, layer: int) -> list[dict[str, Any]]:
    """Share of each token class's selections that are committee members, over all domains; the overall share last."""
    if "token_classes" not in run.tables:
        return []
    table = run.tables["token_classes"].filter(pl.col("layer") == layer)
    summed = table.group_by("class", maintain_order=True).agg(pl.col("count", "committee", "periphery").sum())
    rows = [
        {"class": name, "count": count, "rate": committee / (committee + periphery)}
        for name, count, committee, periphery in summed.rows()
    ]
    count, committee, periphery = (sum(summed[name].to_list()) for name in ("count", "committee", "periphery"))
    base = {"class": "all", "count": count, "rate": committee / (committee + periphery)} if rows else None
    return sorted(rows, key=lambda row: -row["rate"]) + ([base] if base else [])


def expert_tokens(run: StoredRun) -> tuple[Floats, list[str]]:
    """Each expert's first token types by z of their log-odds: [L, E, N] indices of texts; NaN for none."""
    places = np.full((len(run.layers), run.widest, TOKENS), np.nan)
    if "atlas_tokens" not in run.tables:
        return places, []
    table = run.tables["atlas_tokens"].filter((pl.col("by") == "log_odds") & (pl.col("rank") <= TOKENS))
    texts = vocabulary(run)
    types = table["token"].unique(maintain_order=True).to_list()
    place = {token: n for n, token in enumerate(types)}
    at = run.layer_rows(table), table["expert"].to_numpy(), table["rank"].to_numpy() - 1
    places[at] = [place[token] for token in table["token"]]
    return places, [texts.get(token, f"#{token}") for token in types]


def expert_partners(run: StoredRun) -> Floats | None:
    """Each expert's partners of greatest z, [L, E, R, N, 3]: layer, expert and lift of a partner; NaN for none."""
    if "atlas_partners" not in run.tables:
        return None
    table = run.tables["atlas_partners"].filter(pl.col("rank") <= PARTNERS)
    partners = np.full((len(run.layers), run.widest, len(RELATIONS), PARTNERS, 3), np.nan)
    relation = table["relation"].replace_strict(list(RELATIONS), list(range(len(RELATIONS))), return_dtype=pl.Int64)
    at = run.layer_rows(table), table["expert"].to_numpy(), relation.to_numpy(), table["rank"].to_numpy() - 1
    partners[at] = table.select("partner_layer", "partner", "lift").cast(pl.Float64).to_numpy()
    return partners
