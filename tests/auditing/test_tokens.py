"""Token tables and atlas against plain loops, on traces with planted structure and without any."""

import itertools
import math
from collections import Counter, defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import false_discovery_control, norm
from tiny import tiny_tokenizer

from turnout.auditing.reading import Domains
from turnout.auditing.tokens import partners
from turnout.auditing.tokens.atlas import atlas_tables
from turnout.auditing.tokens.binding import TokenCorpus, binding
from turnout.auditing.tokens.classes import stop_words, token_class, token_strings
from turnout.auditing.tokens.partners import partner_table
from turnout.auditing.tokens.tables import token_tables
from turnout.errors import RunError
from turnout.exchange.columns import COLUMNS, TABLES
from turnout.runs import RunFolder, Sample, TraceLayer, rows
from turnout.runs.tables import frame

LAYERS = (TraceLayer(0, experts=6, top_k=2), TraceLayer(2, experts=5, top_k=1), TraceLayer(5, experts=7, top_k=3))
NAMES = ("law", "maths", "music", "art")
COMMITTEES = {0: [1, 4], 2: [0, 3], 5: [2, 3, 6]}


class Array:
    """The part of a CPU tensor that a trace uses."""

    def __init__(self, values):
        self.values = np.asarray(values)

    def numpy(self):
        return self.values


def routed(seed=0, n_samples=60, n_types=12, length=30, pull=2.5, layers=LAYERS, seen=None):
    """Samples as lists: domain, tokens, and for each layer every token's chosen experts.

    Types 0 and 1 are pulled to the committee everywhere, type 2 in law only, type 3 to the periphery everywhere; the
    later layers follow the first where it chose expert 1.
    """
    rng = np.random.default_rng(seed)
    made = []
    for i in range(n_samples):
        domain = NAMES[i % len(NAMES)]
        tokens = rng.integers(0, n_types, rng.integers(length // 2, length)).tolist()
        chosen = {}
        for layer in layers:
            chosen[layer.layer] = []
            for t, token in enumerate(tokens):
                logits = rng.gumbel(size=layer.experts) + np.linspace(0, 1, layer.experts)
                member = np.isin(np.arange(layer.experts), COMMITTEES[layer.layer])
                side = pull * ((token in (0, 1)) + (token == 2 and domain == "law") - (token == 3))
                logits += side * member
                if layer is not layers[0] and 1 in chosen[layers[0].layer][t]:
                    logits[3] += pull
                chosen[layer.layer].append(np.argsort(-logits)[: layer.top_k].tolist())
        made.append({"domain": domain, "tokens": tokens if seen is None else [seen] * len(tokens), "chosen": chosen})
    return made


def write(path, made, layers=LAYERS, n_shards=2):
    """`made` as a finished trace."""
    with RunFolder.open(path, {"planted": "tokens"}) as run:
        writer = run.trace_writer(layers, n_shards)
        for shard in range(n_shards):
            places = list(range(shard, len(made), n_shards))
            batch = [made[i] for i in places]
            captured = SimpleNamespace(
                lengths_B=[len(s["tokens"]) for s in batch],
                layers=[_captured(batch, layer) for layer in layers],
                choice_logprobs=None,
            )
            listed = [
                Sample(i, f"q{i}", s["domain"], s["domain"], s["tokens"]) for i, s in zip(places, batch, strict=True)
            ]
            writer.write(shard, rows(listed, captured, layers))
        return run.trace()


def _captured(batch, layer):
    chosen = [np.array(s["chosen"][layer.layer]) for s in batch]
    floats = {name: Array(np.zeros((len(batch), layer.experts), np.float32)) for name in ("scores", "sums", "applied")}
    return SimpleNamespace(
        layer=layer.layer,
        chosen_TK=Array(np.concatenate(chosen).astype(np.uint8)),
        scores_BE=floats["scores"],
        weights_BK=Array(np.zeros((len(batch), layer.top_k), np.float32)),
        sum_scores_BE=floats["sums"],
        sum_weights_BE=floats["applied"],
        counts_BE=Array(np.stack([np.bincount(c.ravel(), minlength=layer.experts) for c in chosen])),
    )


def domains_of(made):
    return Domains.of([s["domain"] for s in made], NAMES)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    made = routed()
    return made, write(tmp_path_factory.mktemp("tokens") / "run", made)


@pytest.fixture(scope="module")
def tables(planted):
    made, trace = planted
    texts = {v: f" {word}" for v, word in enumerate(["the", "of", "Law", "42", ".", "\n"])} | {6: "ing"}
    return {name: frame(t) for name, t in token_tables(trace, domains_of(made), COMMITTEES, texts).items()}


def test_every_column_is_described(tables, planted):
    made, trace = planted
    every = tables | {name: frame(t) for name, t in atlas_tables(trace, domains_of(made)).items()}
    assert {name: table.columns for name, table in every.items()} == {name: list(COLUMNS[name]) for name in every}
    assert set(COLUMNS) == set(TABLES)


def selections(made, layer, members, domain=None):
    """type → [tokens, selections of members, of others], by loops."""
    counts = defaultdict(lambda: [0, 0, 0])
    for sample in made:
        if domain is None or sample["domain"] == domain:
            for token, chosen in zip(sample["tokens"], sample["chosen"][layer], strict=True):
                inside = sum(e in members for e in chosen)
                counts[token] = [a + b for a, b in zip(counts[token], (1, inside, len(chosen) - inside), strict=True)]
    return dict(counts)


def z_scores(one, two, prior):
    """type → (δ, z), Monroe et al. 2008."""
    total, n, m = sum(prior.values()), sum(one.values()), sum(two.values())
    scores = {}
    for v, a in prior.items():
        delta = math.log((one[v] + a) / (n + total - one[v] - a)) - math.log((two[v] + a) / (m + total - two[v] - a))
        scores[v] = delta, delta / math.sqrt(1 / (one[v] + a) + 1 / (two[v] + a))
    return scores


@pytest.mark.parametrize("layer", LAYERS, ids=lambda x: f"layer{x.layer}")
@pytest.mark.parametrize("domain", NAMES)
def test_bound_types_by_plain_loops(planted, tables, layer, domain):
    counts = selections(planted[0], layer.layer, COMMITTEES[layer.layer], domain)
    one, two = ({v: row[side] for v, row in counts.items()} for side in (1, 2))
    both = {v: one[v] + two[v] for v in counts}
    z = z_scores(one, two, {v: len(both) * x / sum(both.values()) for v, x in both.items()})
    tested = sorted(v for v in counts if counts[v][0] >= 5)
    q = false_discovery_control([2 * norm.sf(abs(z[v][1])) for v in tested])
    table = tables["token_domains"].filter(layer=layer.layer, domain=domain)
    assert table["token"].to_list() == tested
    for row, adjusted in zip(table.iter_rows(named=True), q, strict=True):
        v = row["token"]
        assert [row["count"], row["committee"], row["periphery"]] == counts[v]
        assert row["rate"] == pytest.approx(one[v] / both[v])
        assert row["share"] == pytest.approx(one[v] / sum(one.values()))
        assert row["base"] == pytest.approx(sum(one.values()) / sum(both.values()))
        assert (row["log_odds"], row["z"]) == pytest.approx(z[v])
        assert row["q"] == pytest.approx(adjusted, rel=1e-6)
        side = "committee" if row["z"] > 0 else "periphery"
        assert row["bound"] == (side if adjusted <= 0.05 else None)
        assert row["bound"] is None or abs(row["z"]) > 1.96


def test_planted_types_are_found_and_only_those_in_three_domains_are_invariant(tables):
    layers = tables["token_layers"]
    invariant = {(row["layer"], row["token"]): row["invariant"] for row in layers.iter_rows(named=True)}
    for layer in LAYERS:
        assert invariant[layer.layer, 0] == invariant[layer.layer, 1] == "committee"
        assert invariant[layer.layer, 2] is None  # bound in law alone
    assert invariant[0, 3] == invariant[5, 3] == "periphery"
    in_law = tables["token_domains"].filter(domain="law", token=2)
    assert set(in_law["bound"]) == {"committee"}


def test_token_layers_sum_over_domains(planted, tables):
    for row in tables["token_layers"].iter_rows(named=True):
        counts = selections(planted[0], row["layer"], COMMITTEES[row["layer"]])
        assert [row["count"], row["committee"], row["periphery"]] == counts[row["token"]]
        bound = tables["token_domains"].filter(layer=row["layer"], token=row["token"])["bound"].to_list()
        assert (row["committee_domains"], row["periphery_domains"]) == tuple(
            bound.count(side) for side in ("committee", "periphery")
        )


def test_types_and_classes(planted, tables):
    made, _ = planted
    count = Counter(token for s in made for token in s["tokens"])
    samples = Counter(token for s in made for token in set(s["tokens"]))
    tokens = tables["tokens"]
    assert dict(tokens.select("token", "count").rows()) == count
    assert dict(tokens.select("token", "samples").rows()) == samples
    named = {0: "function", 1: "function", 2: "content", 3: "number", 4: "punctuation", 5: "space", 6: "piece"}
    assert dict(tokens.select("token", "class").rows()) == {v: named.get(v) for v in count}
    for row in tables["token_classes"].iter_rows(named=True):
        counts = selections(made, row["layer"], COMMITTEES[row["layer"]], row["domain"])
        of_class = [counts[v] for v, name in named.items() if name == row["class"] and v in counts]
        assert [row["count"], row["committee"], row["periphery"]] == [sum(x) for x in zip(*of_class, strict=True)]


def test_without_texts_there_are_no_classes(planted):
    made, trace = planted
    bare = token_tables(trace, domains_of(made), COMMITTEES)
    assert len(bare["token_classes"]) == 0
    assert set(bare["tokens"]["text"].to_pylist()) == {None}


def test_false_discoveries_are_within_the_stated_rate(tmp_path):
    """Without any binding, at most one run in twenty reports a bound type, with some slack."""
    rng = np.random.default_rng(5)
    false = 0
    for _ in range(200):
        counts = rng.zipf(1.5, 60).clip(max=400)
        committee = rng.binomial(counts * 2, 0.3)
        false += bool(binding(committee, counts * 2 - committee, counts >= 5).bound.any())
    assert false <= 18  # 10 expected at most; 18 has probability below 1 %


def test_a_single_type_is_not_bound():
    result = binding(np.array([40]), np.array([2]), np.array([True]))
    assert (result.z[0], result.q[0], result.bound[0]) == (0.0, 1.0, 0)


def test_a_trace_without_token_ids_is_refused(tmp_path):
    made = routed(n_samples=8, seen=-1)
    trace = write(tmp_path / "run", made)
    with pytest.raises(RunError, match="expected token ids, got a trace without them"):
        TokenCorpus.of(trace, domains_of(made))
    atlas = atlas_tables(trace, domains_of(made))
    assert len(atlas["atlas_tokens"]) == 0
    assert set(atlas["atlas"]["types"].to_pylist()) == {None}


def test_sharding_changes_no_table(planted, tmp_path):
    made, trace = planted
    again = write(tmp_path / "run", made, n_shards=5)
    for make in (lambda t: token_tables(t, domains_of(made), COMMITTEES), lambda t: atlas_tables(t, domains_of(made))):
        assert make(trace) == make(again)


@pytest.fixture(scope="module")
def atlas(planted):
    made, trace = planted
    return {name: frame(t) for name, t in atlas_tables(trace, domains_of(made)).items()}


def choosers(made, layer):
    """expert → [(token, domain)] of the tokens that chose it."""
    choices = defaultdict(list)
    for sample in made:
        for token, chosen in zip(sample["tokens"], sample["chosen"][layer], strict=True):
            for expert in chosen:
                choices[expert].append((token, sample["domain"]))
    return choices


@pytest.mark.parametrize("layer", LAYERS, ids=lambda x: f"layer{x.layer}")
def test_experts_domains_and_tokens_by_plain_loops(planted, atlas, layer):
    made, _ = planted
    chosen_by, n_tokens = choosers(made, layer.layer), sum(len(s["tokens"]) for s in made)
    in_domain = Counter(s["domain"] for s in made for _ in s["tokens"])
    everything = Counter(token for rows_ in chosen_by.values() for token, _ in rows_)
    prior = {v: len(everything) * n / everything.total() for v, n in everything.items()}
    for expert in range(layer.experts):
        tokens = Counter(token for token, _ in chosen_by[expert])
        row = atlas["atlas"].filter(layer=layer.layer, expert=expert).row(0, named=True)
        assert (row["count"], row["types"]) == (len(chosen_by[expert]), len(tokens))
        assert row["frequency"] == pytest.approx(len(chosen_by[expert]) / n_tokens)
        for domain in NAMES:
            own = sum(d == domain for _, d in chosen_by[expert])
            row = atlas["atlas_domains"].filter(layer=layer.layer, expert=expert, domain=domain).row(0, named=True)
            assert (row["count"], row["share"]) == (own, pytest.approx(own / len(chosen_by[expert])))
            assert row["lift"] == pytest.approx(own / in_domain[domain] / (len(chosen_by[expert]) / n_tokens))
        z = z_scores(tokens, Counter({v: n - tokens[v] for v, n in everything.items()}), prior)
        top = atlas["atlas_tokens"].filter(layer=layer.layer, expert=expert)
        by_z = sorted((v for v in tokens if z[v][1] > 0), key=lambda v: (-round(z[v][1], 9), v))[:10]
        assert top.filter(by="log_odds")["token"].to_list() == by_z
        assert top.filter(by="log_odds")["z"].to_list() == pytest.approx([z[v][1] for v in by_z])
        by_count = sorted(tokens, key=lambda v: (-tokens[v], v))[:10]
        assert top.filter(by="count")["token"].to_list() == by_count
        assert top.filter(by="count")["rank"].to_list() == list(range(1, len(by_count) + 1))


def chance_within(choices, n_experts, k):
    """Expected pairs under the maximum-entropy choice with the shares of `choices`, fitted by plain scaling."""
    share = [sum(e in c for c in choices) / len(choices) for e in range(n_experts)]
    sets = list(itertools.combinations(range(n_experts), k))
    w = [max(s, 1e-9) for s in share]
    for _ in range(3000):
        p = [math.prod(w[e] for e in s) for s in sets]
        fitted = [sum(x for x, s in zip(p, sets, strict=True) if e in s) / sum(p) for e in range(n_experts)]
        w = [x * (s / f) if f else 0 for x, s, f in zip(w, share, fitted, strict=True)]
    pairs = defaultdict(float)
    for x, s in zip(p, sets, strict=True):
        for a, b in itertools.permutations(s, 2):
            pairs[a, b] += x / sum(p)
    return pairs


def test_partners_within_a_layer_by_plain_loops(planted, atlas):
    made, _ = planted
    layer = LAYERS[2]
    choices = [chosen for s in made for chosen in s["chosen"][layer.layer]]
    chance, n = chance_within(choices, layer.experts, layer.top_k), len(choices)
    for expert in range(layer.experts):
        table = atlas["atlas_partners"].filter(layer=layer.layer, expert=expert, relation="same")
        z = {}
        for other in set(range(layer.experts)) - {expert}:
            together = sum(expert in c and other in c for c in choices)
            expected = n * chance[expert, other]
            z[other] = together, expected, (together - expected) / math.sqrt(expected * (1 - expected / n))
        best = sorted((o for o in z if z[o][2] > 0), key=lambda o: -z[o][2])[:5]
        assert table["partner"].to_list() == best
        for row in table.iter_rows(named=True):
            together, expected, score = z[row["partner"]]
            assert (row["together"], row["tokens"], row["partner_layer"]) == (together, n, layer.layer)
            assert (row["expected"], row["lift"]) == pytest.approx((expected, together / expected), rel=1e-4)
            assert row["z"] == pytest.approx(score, abs=1e-3)


@pytest.mark.parametrize(
    ("relation", "of", "others"), [("previous", 2, [0]), ("previous", 5, [2]), ("earlier", 5, [0])]
)
def test_partners_across_layers_by_plain_loops(planted, atlas, relation, of, others):
    made, _ = planted
    pairs = {
        other: [pair for s in made for pair in zip(s["chosen"][of], s["chosen"][other], strict=True)]
        for other in others
    }
    experts = {layer.layer: layer.experts for layer in LAYERS}
    for expert in range(experts[of]):
        z = {}
        for other, chosen in pairs.items():
            n, own = len(chosen), sum(expert in mine for mine, _ in chosen)
            for partner in range(experts[other]):
                his = sum(partner in c for _, c in chosen)
                together = sum(expert in mine and partner in c for mine, c in chosen)
                variance = own * (n - own) * his * (n - his) / (n * n * (n - 1))
                z[other, partner] = together, own * his / n, (together - own * his / n) / math.sqrt(variance)
        best = sorted((key for key in z if z[key][2] > 0), key=lambda key: (-z[key][2], key))[:5]
        table = atlas["atlas_partners"].filter(layer=of, expert=expert, relation=relation)
        assert table.select("partner_layer", "partner").rows() == best
        for row in table.iter_rows(named=True):
            together, expected, score = z[row["partner_layer"], row["partner"]]
            assert row["together"] == together
            assert (row["expected"], row["lift"], row["z"]) == pytest.approx((expected, together / expected, score))


def test_the_first_layer_has_no_earlier_partners_and_the_planted_one_leads(atlas):
    partners_ = atlas["atlas_partners"]
    assert set(partners_.filter(layer=0)["relation"]) == {"same"}
    assert set(partners_.filter(layer=2)["relation"]) == {"previous"}  # K = 1: no pairs within
    leading = partners_.filter(layer=5, expert=3, relation="earlier", rank=1).row(0, named=True)
    assert (leading["partner_layer"], leading["partner"]) == (0, 1)


def test_partners_are_counted_over_a_limited_number_of_tokens(planted, monkeypatch):
    monkeypatch.setattr(partners, "MAX_TOKENS", 100)
    table = frame(partner_table(planted[1]))
    assert set(table["tokens"]) == {100}


CLASSES = {
    " the": "function",
    " The": "function",
    "the": "piece",
    " photosynthesis": "content",
    "ing": "piece",
    "'s": "function",
    "’ll": "function",
    "n't": "function",
    " 1987": "number",
    "½": "number",
    " x2": "content",
    "):": "punctuation",
    " ": "space",
    "\n\n": "space",
    "<|endoftext|>": "special",
    "</s>": "special",
    "[SEP]": "special",
    "<p>": "piece",
    "\ufffd": "piece",
    " été": "content",
}


@pytest.mark.parametrize("text", CLASSES)
def test_token_classes(text):
    assert token_class(text) == CLASSES[text]


def test_the_published_list_of_function_words():
    assert len(stop_words()) == 318
    assert {"the", "of", "is"} <= stop_words()


def test_strings_of_a_byte_level_tokenizer():
    tokenizer = tiny_tokenizer()
    ids = tokenizer.encode("a b\n", add_special_tokens=False)
    texts = token_strings(tokenizer, [*ids, len(tokenizer) + 5])
    assert [texts[i] for i in ids] == ["a", " ", "b", "\n"]
    assert len(texts) == len(set(ids))
    half = tokenizer.encode("é", add_special_tokens=False)
    assert token_class(token_strings(tokenizer, half)[half[0]]) == "piece"
    assert token_strings(tokenizer, torch.tensor(ids)) == {i: texts[i] for i in ids}
