"""Changes that an alignment made to the routing of the test questions; its name is given as JSON, run.py starts it.

The result contains the agreement of task embedding and routing (overlap of the ten nearest, linear CKA, each with its
value for unrelated representations), the audit, and its comparison with the base model's. Shapes: S questions, F
scores.
"""

import json
import sys
from pathlib import Path
from typing import Any

import polars as pl
import torch

import turnout
from experiments.align.base import OUT
from experiments.align.questions import FOLDER
from experiments.shared.pool import write_result
from turnout import ops
from turnout.aligning.neighbors import embed
from turnout.models.wrap.anatomy import MoE
from turnout.models.wrap.load import load
from turnout.tasks.load import load_tasks

RUNS = Path("runs/align")
AUDITS = RUNS / "audits"
BASE, NEAREST, PERMUTATIONS = "base", 10, 200
KEPT = ("coverage", "gini", "jaccard_mean", "claim", "candidates", "committee", "fallback")


def main(name: str) -> None:
    """Audit, compare, write."""
    torch.set_num_threads(1)
    adapter = None if name == BASE else RUNS / "runs" / name
    out = AUDITS / name
    moe = load(OUT, dtype="float32", adapter=adapter)
    audit = turnout.audit(moe, FOLDER / "test.jsonl", out, answers=True).to_dict()
    samples = pl.read_parquet(sorted(out.glob("trace/part-*.parquet"))).sort("index")
    content: dict[str, Any] = {"name": name, "overall": audit["overall"], "accuracy": audit["accuracy"]}
    content["layers"] = [{key: layer[key] for key in KEPT} for layer in audit["layers"]]
    content["agreement"] = agreement(routing(samples), embeddings(moe, samples))
    if adapter is not None:
        compared = turnout.compare([AUDITS / BASE, out]).to_dict()
        content["beside_base"] = {"overall": compared["overall"], "layers": compared["layers"]}
    write_result(RUNS / "results", f"change-{name}", content)


def routing(samples: pl.DataFrame) -> torch.Tensor:
    """Routing r of every question [S, F]: p at its last token, concatenated over layers."""
    layers = sorted(name for name in samples.columns if name.startswith("scores_"))
    return torch.cat([torch.from_numpy(samples[name].to_numpy().copy()) for name in layers], 1)


def embeddings(moe: MoE, samples: pl.DataFrame) -> torch.Tensor:
    """MiniLM's unit vectors of the same questions, in the trace's order."""
    text = {question.id: question.text for question in load_tasks(FOLDER / "test.jsonl").questions}
    return embed([text[name] for name in samples["id"]], "minilm", moe, 4096)


def agreement(routing_SF: torch.Tensor, embedding_SX: torch.Tensor) -> dict[str, float]:
    """Overlap and CKA, and the mean and the 95 % quantile of CKA over permutations of the questions."""
    draw = torch.Generator().manual_seed(0)
    shuffled = [
        float(ops.linear_cka(routing_SF, embedding_SX[torch.randperm(len(embedding_SX), generator=draw)]))
        for _ in range(PERMUTATIONS)
    ]
    return {
        "overlap": float(ops.neighbour_overlap(embedding_SX, routing_SF, NEAREST).mean()),
        "overlap_by_chance": NEAREST / (len(routing_SF) - 1),
        "cka": float(ops.linear_cka(routing_SF, embedding_SX)),
        "cka_permuted": sum(shuffled) / len(shuffled),
        "cka_permuted_95": float(torch.tensor(shuffled).quantile(0.95)),
    }


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
