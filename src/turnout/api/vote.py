"""`turnout.vote`: self-consistency, a majority of many sampled answers (arXiv 2203.11171)."""

from pathlib import Path
from typing import TYPE_CHECKING

from turnout.api.deprecated import former_names
from turnout.api.models import resolve_causal
from turnout.listener import Listener
from turnout.reasoning.vote.config import VoteConfig
from turnout.runs.opening import open_run

if TYPE_CHECKING:
    import torch

    from turnout.reasoning.vote.result import VoteResult


@former_names(most_tokens="max_new_tokens")
def vote(
    model: str | Path | None,
    tasks: str | Path,
    out: str | Path | None = None,
    *,
    samples: int = 128,
    temperature: float = 0.6,
    problems: int = 200,
    max_new_tokens: int = 256,
    batch_size: int = 256,
    subsets: int = 100,
    resamples: int = 1000,
    seed: int = 0,
    adapter: str | Path | None = None,
    dtype: "torch.dtype | str | None" = None,
    device: "torch.device | str | None" = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
    listener: Listener | None = None,
) -> "VoteResult":
    """Sample many answers to open-ended problems and vote: pass@n and majorities of 1, 2, 4, … of them.

    A run that was killed keeps the answers that it has; a complete one is read, not computed again.

    >>> turnout.vote("path/to/checkpoint", "chains-2", "run", samples=64).frame()

    Args:
        model: a checkpoint folder or hub id, MoE or dense, or None for the embedded model.
        tasks: "chains-2", "facts-500", "gym-NAME", or a JSONL file with `prompt` and `answer`.
        out: the run's folder; None: a temporary one, removed with the result.
        samples: sampled answers to each problem.
        temperature: temperature of the sampling.
        problems: at most this many problems.
        max_new_tokens: longest answer.
        batch_size: answers generated at once.
        subsets: random subsets of the samples over which a vote of fewer is averaged.
        resamples: resamples of the problems, for intervals.
        seed: of samples, subsets and resamples, and of problems that are drawn.
        adapter: trained routers to load into a MoE: the run of `turnout align`, or its adapter folder.
        dtype: of the weights; None is the checkpoint's own.
        device: "auto" (CUDA if there is one, then MPS, else CPU), or a torch device.
        revision: branch, tag or commit of a hub id.
        trust_remote_code: run Python code of the checkpoint.
        listener: receives progress and notes.

    Returns:
        `.frame()` (one row a number of samples), `.table("answers")`, `.to_dict()`.

    Raises:
        TurnoutError: one line that names what does not fit: the model, the exercises, a setting or the folder.
    """
    from turnout.reasoning.vote.result import VoteResult
    from turnout.reasoning.vote.run import KEEP, run
    from turnout.tasks.exercises import digest, load_exercises

    listener = listener or Listener()
    config = VoteConfig(
        samples=samples,
        temperature=temperature,
        problems=problems,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        subsets=subsets,
        resamples=resamples,
        seed=seed,
    )
    exercises = load_exercises(tasks, config.problems, seed=config.seed)
    live, tokenizer, described = resolve_causal(
        model,
        listener,
        adapter=adapter,
        dtype=dtype,
        device=device,
        revision=revision,
        trust_remote_code=trust_remote_code,
    )
    inputs = {"verb": "vote", "model": described, "tasks": digest(exercises), "config": config.describe()}
    with open_run(out, inputs, listener, keep=KEEP) as folder:
        if not folder.complete:
            run(live, tokenizer, exercises, config, folder, listener, described=described, tasks=str(tasks))
    return folder.load(VoteResult)
