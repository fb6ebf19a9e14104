"""Traces with a known structure, written through `turnout.runs` like a real trace."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import torch

from turnout.auditing.reading import Domains
from turnout.runs import RunFolder, Sample, TraceLayer, rows

LAYERS = (TraceLayer(1, experts=8, top_k=2, shared=1), TraceLayer(4, experts=12, top_k=3))
COUNTS = {"maths": 7, "law": 5, "history": 9, "music": 6}


def sample_of(domain, d, layers, rng, committee=(5,), strength=2.5, tokens=5):
    """One sample: the experts of `committee` have high scores in every domain, expert d in domain d."""
    made = {}
    for layer in layers:
        logits_TE = rng.standard_normal((int(rng.integers(1, tokens)), layer.experts))
        logits_TE[:, list(committee)] += strength
        logits_TE[:, d % layer.experts] += 1.0
        p_TE = (np.exp(logits_TE) / np.exp(logits_TE).sum(1, keepdims=True)).astype(np.float32)
        chosen_TK = np.argsort(-p_TE, axis=1, kind="stable")[:, : layer.top_k]
        weights_TK = np.take_along_axis(p_TE, chosen_TK, 1)
        made[layer.layer] = {"p": p_TE, "chosen": chosen_TK, "weights": weights_TK}
    length = min(len(layer["p"]) for layer in made.values())
    cut = {n: {name: x[:length] for name, x in layer.items()} for n, layer in made.items()}
    return {"domain": domain, "layers": cut}


def samples(counts=COUNTS, layers=LAYERS, seed=0, **planted):
    """Samples of `counts` domains, interleaved."""
    rng = np.random.default_rng(seed)
    made = [
        sample_of(domain, d, layers, rng, **planted) for d, (domain, n) in enumerate(counts.items()) for _ in range(n)
    ]
    return [made[i] for i in rng.permutation(len(made))]


def as_lists(dataset):
    """The samples as lists of Python floats, for plain.py."""
    return [
        {**s, "layers": {n: {k: x.tolist() for k, x in layer.items()} for n, layer in s["layers"].items()}}
        for s in dataset
    ]


def _captured(batch, layer):
    parts = [s["layers"][layer.layer] for s in batch]
    applied = []
    for part in parts:
        full_TE = np.zeros(part["p"].shape)
        np.put_along_axis(full_TE, part["chosen"], part["weights"].astype(float), 1)
        applied.append(full_TE.sum(0))
    return SimpleNamespace(
        layer=layer.layer,
        chosen_TK=torch.tensor(np.concatenate([part["chosen"] for part in parts]).astype(np.uint8)),
        scores_BE=torch.tensor(np.stack([part["p"][-1] for part in parts])),
        weights_BK=torch.tensor(np.stack([part["weights"][-1] for part in parts])),
        sum_scores_BE=torch.tensor(np.stack([part["p"].astype(float).sum(0) for part in parts])).float(),
        sum_weights_BE=torch.tensor(np.stack(applied)).float(),
        counts_BE=torch.tensor(
            np.stack([np.bincount(part["chosen"].ravel(), minlength=layer.experts) for part in parts])
        ),
    )


def write_trace(path, dataset, layers=LAYERS, answers=None, n_shards=3):
    """Write `dataset` as a trace below `path`, in interleaved shards; `answers` are (answer, log-probabilities)."""
    n_shards = min(n_shards, len(dataset))
    with RunFolder.open(path, {"planted": True}) as run:
        writer = run.trace_writer(layers, n_shards)
        for shard in range(n_shards):
            where = range(shard, len(dataset), n_shards)
            batch = [dataset[i] for i in where]
            lengths = [len(next(iter(s["layers"].values()))["p"]) for s in batch]
            known = [answers[i] for i in where] if answers else [(None, None)] * len(batch)
            captured = SimpleNamespace(
                lengths_B=lengths,
                layers=tuple(_captured(batch, layer) for layer in layers),
                choice_logprobs=[logprobs for _, logprobs in known] if answers else None,
            )
            listed = [
                Sample(i, f"q{i}", f"{s['domain']} {i % 2}", s["domain"], list(range(n)), answer)
                for i, s, n, (answer, _) in zip(where, batch, lengths, known, strict=True)
            ]
            writer.write(shard, pa.concat_tables([rows(listed, captured, layers)]))
        return run.trace()


def domains_of(dataset, order=None):
    return Domains.of([s["domain"] for s in dataset], order or list(dict.fromkeys(s["domain"] for s in dataset)))


def describe(dataset, name="planted", domain_map="file"):
    """The description that a TaskSet of the samples would give."""
    counts = Counter(s["domain"] for s in dataset)
    return {
        "name": name,
        "domain_map": domain_map,
        "questions": len(dataset),
        "digest": "0" * 64,
        "domains": dict(counts),
        "subjects": dict.fromkeys(counts, 2),
        "one_sample_domains": [d for d, n in counts.items() if n == 1],
        "with_answer": 0,
        "text_rows": 0,
        "dropped": [],
    }
