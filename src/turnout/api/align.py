"""`turnout.align`: train the routers of the last layers (RoMA, arXiv 2511.07419), or reroute each question (C3PO)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnout.aligning.config import (
    AlignConfig,
    Decay,
    ManifoldConfig,
    Method,
    NeighborRouting,
    Padding,
    ReadingConfig,
    ReroutingConfig,
    ScheduleConfig,
    StepKind,
    Stored,
    Surrogate,
    Target,
    Tokens,
)
from turnout.api.deprecated import former_names
from turnout.api.models import resolve_moe
from turnout.api.pages import draw_page
from turnout.errors import RecipeError
from turnout.listener import Listener
from turnout.runs.opening import open_run
from turnout.tasks.load import load_tasks
from turnout.tasks.question import TaskSet

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from turnout.aligning.result import Alignment
    from turnout.models.wrap.anatomy import MoE


@former_names()
def align(
    model: "MoE | PreTrainedModel | str | Path | None",
    tasks: TaskSet | str | Path,
    evaluation: TaskSet | str | Path | None = None,
    out: str | Path | None = None,
    *,
    method: Method = "roma",
    domains: str | Path | None = None,
    limit: int | None = None,
    layers: str | None = None,
    tokens: Tokens = "last",
    target: Target = "letters",
    max_length: int = 1024,
    padding: Padding = "right",
    token_budget: int = 4096,
    embedder: str = "minilm",
    k: int = 3,
    sigma: float = 0.4,
    min_similarity: float | None = None,
    neighbours: NeighborRouting = "base",
    weight: float = 0.8,
    warmup: int = 0,
    learning_rate: float = 7e-5,
    weight_decay: float = 0.01,
    batch_size: int = 32,
    epochs: int = 3,
    decay: Decay = "constant",
    max_grad_norm: float | None = 1.0,
    seed: int = 0,
    save_every: int = 50,
    cache_gb: float = 16.0,
    stored: Stored = "float32",
    surrogate: Surrogate = "ngd",
    max_similarity: float = 0.95,
    core_experts: int = 20,
    alpha: float | None = None,
    routing_sigma: float | None = None,
    steps: int | None = None,
    step_size: float = 0.5,
    step_kind: StepKind = "unit",
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    adapter: str | Path | None = None,
    dtype: "torch.dtype | str | None" = None,
    device: "torch.device | str | None" = "auto",
    device_map: str | dict[str, Any] | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    listener: Listener | None = None,
) -> "Alignment":
    """Train the routers of the last MoE layers on answered questions, and nothing else; with `out`, draw the page.

    RoMA (arXiv 2511.07419) adds the manifold loss to the cross-entropy of the answer letter, so that similar questions
    route alike; other methods are its baselines. C3PO (arXiv 2504.07964) and the oracle train nothing and change the
    routing of each evaluation question. The model is left unchanged: the trained routers are the run's adapter. A run
    that was killed resumes; a complete one is read, not computed again.

    >>> alignment = turnout.align("path/to/checkpoint", "train.jsonl", "test.jsonl", out="run")
    >>> alignment.frame()
    >>> moe = turnout.load("path/to/checkpoint", adapter="run")

    Args:
        model: a checkpoint folder or hub id, a MoE, a live transformers model (with `tokenizer=`), or None for the
            embedded model.
        tasks: training questions with answers: "mmlu-dev", "worlds", a folder, a JSONL or Parquet file, or a TaskSet.
        evaluation: questions that are answered before and after; training questions of the same text are left out.
        out: the run's folder, with the router adapter; None: a temporary one, removed with the result.
        method: "roma", a baseline ("router-tuning" has no penalty), or "c3po" or "oracle", which reroute.
        domains: "mmlu-9", "mmlu-4", "subject" or a map's file. None: as the questions state, else mmlu-9.
        limit: at most this many training questions of each subject.
        layers: "last-N", "first-N" or "all" MoE layers; None: the last five, or all of fewer.
        tokens: tokens at which a prompt's routing is read; over "last-three" it is their mean.
        target: cross-entropy among the question's letters, or among the whole vocabulary.
        max_length: most tokens of a training prompt; longer ones are left out and counted.
        padding: side on which shorter prompts are padded; no figure depends on it.
        token_budget: most tokens of a forward, padding included; a larger batch is split and its gradients are summed.
        embedder: "minilm", "model" (the model's mean last hidden state), or a folder or hub id of
            sentence-transformers.
        k: neighbors of a question.
        sigma: width σ of the kernel exp(−d²/2σ²) over distances of unit vectors.
        min_similarity: least similarity of a neighbor, from 0 to 1; None: no limit.
        neighbours: routing of the neighbors: under the "base" routers, or "live", under the routers of each step.
        weight: weight λ of the manifold loss or of the regularizer.
        warmup: steps over which λ rises from 0.
        learning_rate: of AdamW.
        weight_decay: of AdamW.
        batch_size: questions of a step.
        epochs: passes over the training questions.
        decay: learning rate over the steps: "constant", or "cosine" to 0.
        max_grad_norm: norm to which longer gradients are clipped; None: no clipping.
        seed: of the order of the questions, of random neighbors and of resamples.
        save_every: steps between checkpoints.
        cache_gb: most disk space of the cache of hidden states, in GB.
        stored: dtype of the adapter's tensors: "float32", or the "checkpoint"'s own.
        surrogate: C3PO: "ngd" (gradient descent), "kernel-regression" or "mode-finding".
        max_similarity: C3PO: greatest similarity of a neighbor, from 0 to 1.
        core_experts: C3PO: experts of a layer whose scores change.
        alpha: C3PO: share of its own routing that a question keeps, from 0 to 1; None: see the reference.
        routing_sigma: C3PO, mode finding: kernel width over distances of routing; None: a median distance.
        steps: C3PO and oracle: most steps; None: 10, for the oracle 50.
        step_size: C3PO and oracle: length of a step, in logits.
        step_kind: C3PO and oracle: steps of that length ("unit"), or the gradient times it ("plain").
        tokenizer: of a live model.
        adapter: trained routers to start from, loaded into a checkpoint; the new adapter replaces this one and fits
            the same base.
        dtype: of the weights; None is the checkpoint's own.
        device: "auto" (CUDA if there is one, then MPS, else CPU), or a torch device.
        device_map: passed to accelerate instead of `device`.
        revision: branch, tag or commit of a hub id.
        trust_remote_code: run Python code of the checkpoint.
        listener: receives progress and notes.

    Returns:
        The stored result: `.accuracy`, `.manifold`, `.cross_entropy`, `.frame()`, `.table("curves")`, `.to_dict()`.

    Raises:
        TurnoutError: one line that names what does not fit: the model, the questions, the settings or the folder.
    """
    from turnout.aligning.questions import prepare
    from turnout.aligning.result import Alignment
    from turnout.aligning.run import KEEP
    from turnout.aligning.run import run as run_align
    from turnout.models.change.adapter import RouterAdapter

    listener = listener or Listener()
    config = AlignConfig(
        method=method,
        reading=ReadingConfig(
            layers=layers,
            tokens=tokens,
            target=target,
            max_length=max_length,
            padding=padding,
            token_budget=token_budget,
        ),
        manifold=ManifoldConfig(
            embedder=embedder,
            k=k,
            sigma=sigma,
            min_similarity=min_similarity,
            neighbours=neighbours,
            weight=weight,
            warmup=warmup,
        ),
        schedule=ScheduleConfig(
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            batch_size=batch_size,
            epochs=epochs,
            decay=decay,
            max_grad_norm=max_grad_norm,
            seed=seed,
            save_every=save_every,
            cache_gb=cache_gb,
            stored=stored,
        ),
        rerouting=ReroutingConfig(
            surrogate=surrogate,
            max_similarity=max_similarity,
            core_experts=core_experts,
            alpha=alpha,
            routing_sigma=routing_sigma,
            steps=steps,
            step_size=step_size,
            step_kind=step_kind,
        ),
    )
    if config.reroutes and evaluation is None:
        expected = f"evaluation questions: {config.method} changes their routing"
        raise RecipeError("evaluation", expected=expected, received="none", do="give them with --eval")
    train_tasks = _questions(tasks, domains, limit, "train")
    test_tasks = None if evaluation is None else _questions(evaluation, domains, None, "test")
    moe = resolve_moe(
        model,
        tokenizer,
        listener,
        adapter=adapter,
        dtype=dtype,
        device=device,
        device_map=device_map,
        revision=revision,
        trust_remote_code=trust_remote_code,
    )
    train, test = prepare(moe, train_tasks, test_tasks, config.reading.max_length)
    start = None if adapter is None else RouterAdapter.read(adapter)
    described = moe.describe()
    inputs = {
        "verb": "align",
        "model": {key: value for key, value in described.items() if key not in ("id", "revision", "notes")},
        "tasks": train.describe(),
        "evaluation": None if test is None else test.describe(),
        "config": config.describe(),
    }
    with open_run(out, inputs, listener, keep=KEEP) as run:
        if not run.complete:
            run_align(moe, train, test, config, run, listener, model=described, start=start)
    draw_page(run)
    return run.load(Alignment)


def _questions(tasks: TaskSet | str | Path, domains: str | Path | None, limit: int | None, split: str) -> TaskSet:
    """The questions of `tasks`; of a source with splits, those of `split`."""
    if isinstance(tasks, TaskSet):
        return tasks
    return load_tasks(tasks, domains=domains, limit=limit, **({"split": split} if str(tasks) == "worlds" else {}))
