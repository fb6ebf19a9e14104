"""`turnout align MODEL --tasks …`: train the last layers' routers, so that like questions route alike."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from turnout.cli.console import Bars, print_result, say, say_where
from turnout.cli.options import Device, Dtype, Out, TrustRemoteCode
from turnout.cli.verb import Json, print_json, verb

if TYPE_CHECKING:
    from turnout.aligning import Alignment


class Method(StrEnum):
    """What is added to the cross-entropy of the answer; c3po and oracle train nothing and reroute each question."""

    roma = "roma"
    router_tuning = "router-tuning"
    random_neighbours = "random-neighbours"
    no_success_filter = "no-success-filter"
    permuted_targets = "permuted-targets"
    domain_mean = "domain-mean"
    l1 = "l1"
    l2 = "l2"
    entropy = "entropy"
    c3po = "c3po"
    oracle = "oracle"


class Tokens(StrEnum):
    """Where routing is read."""

    last = "last"
    last_three = "last-three"
    first = "first"


class Neighbours(StrEnum):
    """Under which routers a neighbour's routing is taken."""

    base = "base"
    live = "live"


class Target(StrEnum):
    """Among what the answer's letter is scored."""

    letters = "letters"
    vocabulary = "vocabulary"


class Surrogate(StrEnum):
    """C3PO's ways to a routing without the question's own answer."""

    ngd = "ngd"
    kernel_regression = "kernel-regression"
    mode_finding = "mode-finding"


class StepKind(StrEnum):
    """How long a step of gradient descent is."""

    unit = "unit"
    plain = "plain"


class Decay(StrEnum):
    """The learning rate over the steps."""

    constant = "constant"
    cosine = "cosine"


class Stored(StrEnum):
    """Dtype of the adapter's tensors."""

    float32 = "float32"
    checkpoint = "checkpoint"


@verb
def align(
    model: Annotated[str, typer.Argument(help="Checkpoint folder or hub id.")],
    tasks: Annotated[str, typer.Option(help="Questions to train on, with answers: a name, folder or file.")],
    evaluation: Annotated[
        str | None, typer.Option("--eval", help="Questions to ask before and after; none of them is trained on.")
    ] = None,
    method: Annotated[Method, typer.Option(help="RoMA, or a baseline.")] = Method.roma,
    domains: Annotated[
        str | None, typer.Option(help="mmlu-9, mmlu-4, subject, or a JSON/CSV file of subject and domain.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="At most this many training questions of a subject.", min=1)] = None,
    layers: Annotated[
        str | None, typer.Option(help="last-N, first-N or all MoE layers. [default: last-5, or all of fewer]")
    ] = None,
    tokens: Annotated[Tokens, typer.Option(help="Where a prompt's routing is read.")] = Tokens.last,
    embedder: Annotated[
        str, typer.Option(help="minilm, model (its own hidden states), or a sentence-transformers folder or hub id.")
    ] = "minilm",
    k: Annotated[int, typer.Option(help="Neighbours of a question.", min=1)] = 3,
    sigma: Annotated[float, typer.Option(help="Width of the similarity's kernel.")] = 0.4,
    min_similarity: Annotated[float | None, typer.Option(help="Leave out less similar neighbours.")] = None,
    neighbours: Annotated[
        Neighbours, typer.Option(help="A neighbour's routing under the base routers, or as they are.")
    ] = Neighbours.base,
    weight: Annotated[float, typer.Option(help="λ, the weight of the manifold loss or regulariser.")] = 0.8,
    warmup: Annotated[int, typer.Option(help="Steps over which λ rises from 0.", min=0)] = 0,
    target: Annotated[
        Target, typer.Option(help="Score the answer among the question's letters, or all tokens.")
    ] = Target.letters,
    learning_rate: Annotated[float, typer.Option(help="AdamW's.")] = 7e-5,
    weight_decay: Annotated[float, typer.Option(help="AdamW's.")] = 0.01,
    decay: Annotated[Decay, typer.Option(help="Of the learning rate.")] = Decay.constant,
    max_grad_norm: Annotated[float, typer.Option(help="Shorten longer gradients to this.")] = 1.0,
    batch_size: Annotated[int, typer.Option(help="Questions in a step.", min=1)] = 32,
    epochs: Annotated[int, typer.Option(help="Passes over the questions.", min=1)] = 3,
    max_length: Annotated[int, typer.Option(help="Leave out longer training prompts.", min=1)] = 1024,
    seed: Annotated[int, typer.Option(help="Of the order of the questions and of what is drawn.", min=0)] = 0,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.", min=1)] = 50,
    cache_gb: Annotated[float, typer.Option(help="Most disk space for the tail's hidden states.", min=0)] = 16.0,
    stored: Annotated[Stored, typer.Option(help="Dtype of the adapter's tensors.")] = Stored.float32,
    surrogate: Annotated[Surrogate, typer.Option(help="C3PO: what moves a question's routing.")] = Surrogate.ngd,
    max_similarity: Annotated[float, typer.Option(help="C3PO: leave out more similar neighbours.")] = 0.95,
    core_experts: Annotated[int, typer.Option(help="C3PO: experts of a layer whose routing may change.", min=1)] = 20,
    alpha: Annotated[
        float | None, typer.Option(help="C3PO: share of its own routing that a question keeps. [default: see the docs]")
    ] = None,
    routing_sigma: Annotated[
        float | None, typer.Option(help="C3PO, mode finding: kernel width. [default: a median distance]")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="C3PO, oracle: most steps. [default: 10, of the oracle 50]", min=0)
    ] = None,
    step_size: Annotated[float, typer.Option(help="C3PO, oracle: length of a step, in logits.")] = 0.5,
    step_kind: Annotated[
        StepKind, typer.Option(help="C3PO, oracle: steps of that length, or the gradient times it.")
    ] = StepKind.unit,
    token_budget: Annotated[int, typer.Option(help="Most tokens of a forward, padding included.", min=1)] = 4096,
    dtype: Dtype = None,
    device: Device = None,
    trust_remote_code: TrustRemoteCode = False,
    out: Out = None,
    json: Json = False,
) -> None:
    """Tune only the last layers' routers, by RoMA or a baseline; writes a run with the router adapter and its page."""
    from turnout.api import old as api

    folder = out or Path("runs") / f"{Path(model).name}-{Path(tasks).stem}-{method.value}"
    with Bars() as bars:
        result = api.align(
            model,
            tasks,
            evaluation,
            folder,
            domains=domains,
            limit=limit,
            method=method.value,
            layers=layers,
            tokens=tokens.value,
            embedder=embedder,
            k=k,
            sigma=sigma,
            min_similarity=min_similarity,
            neighbours=neighbours.value,
            weight=weight,
            warmup=warmup,
            target=target.value,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            decay=decay.value,
            max_grad_norm=max_grad_norm,
            batch_size=batch_size,
            epochs=epochs,
            max_length=max_length,
            seed=seed,
            save_every=save_every,
            cache_gb=cache_gb,
            stored=stored.value,
            surrogate=surrogate.value,
            max_similarity=max_similarity,
            core_experts=core_experts,
            alpha=alpha,
            routing_sigma=routing_sigma,
            steps=steps,
            step_size=step_size,
            step_kind=step_kind.value,
            token_budget=token_budget,
            dtype=dtype,
            device=device,
            trust_remote_code=trust_remote_code,
            progress=bars,
            note=say,
        )
    if json:
        print_json(result.to_dict())
        return
    _show(result, folder)


def _show(result: "Alignment", folder: Path) -> None:
    from turnout import report

    print_result(report.alignment_tables(result.to_dict()), report.alignment_sentences(result.to_dict()))
    say_where(folder)
