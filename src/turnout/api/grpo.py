"""`turnout.grpo`: reinforcement learning for right final answers, through TRL's GRPOTrainer (arXiv 2402.03300)."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from turnout.api.deprecated import former_names
from turnout.api.models import resolve_causal
from turnout.listener import Listener
from turnout.reasoning.grpo.config import GrpoConfig
from turnout.runs.opening import open_run

if TYPE_CHECKING:
    import torch

    from turnout.reasoning.grpo.result import GrpoResult


@former_names(most_tokens="max_new_tokens", asked="test_problems")
def grpo(
    model: str | Path | None,
    tasks: str | Path,
    out: str | Path | None = None,
    *,
    generations: int = 5,
    problems_per_step: int = 16,
    steps: int = 100,
    learning_rate: float = 5e-6,
    kl: float = 1e-3,
    clip: float = 0.2,
    temperature: float = 1.0,
    max_new_tokens: int = 256,
    routers: Literal["trained", "frozen"] = "trained",
    problems: int = 2000,
    test_problems: int = 200,
    save_every: int = 50,
    seed: int = 0,
    adapter: str | Path | None = None,
    device: "torch.device | str | None" = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
    listener: Listener | None = None,
) -> "GrpoResult":
    """Train a model for the reward of right final answers; answer test problems before and after.

    The reward is 1 for the gold final answer, else 0; text is parsed, never run. A run that was killed resumes from its
    last whole checkpoint; a complete one is read, not computed again.

    >>> result = turnout.grpo("path/to/checkpoint", "chains-2", "run", steps=100)
    >>> result.accuracy, result.path / "model"

    Args:
        model: a checkpoint folder or hub id, MoE or dense, or None for the embedded model; trained in float32.
        tasks: "chains-2", "facts-500", "gym-NAME", or a JSONL file with `prompt` and `answer`. Training problems are of
            the train split, test problems of the test split; facts have none and are tested as they are trained.
        out: the run's folder, with the trained checkpoint in `model/`; None: a temporary one, removed with the result.
        generations: sampled answers to each problem, whose rewards are compared with each other.
        problems_per_step: problems of an optimizer step.
        steps: optimizer steps.
        learning_rate: learning rate, constant.
        kl: β, the weight of the divergence from the initial model.
        clip: ε of the clipped probability ratio.
        temperature: temperature at which the answers are sampled.
        max_new_tokens: longest answer.
        routers: "trained", or "frozen": the routers keep their weights.
        problems: training problems that are drawn.
        test_problems: test problems that are answered before and after.
        save_every: steps between checkpoints.
        seed: of everything that is drawn.
        adapter: trained routers to load into a MoE: the run of `turnout align`, or its adapter folder.
        device: "auto" (CUDA if there is one, then MPS, else CPU), or a torch device.
        revision: branch, tag or commit of a hub id.
        trust_remote_code: run Python code of the checkpoint.
        listener: receives progress and notes.

    Returns:
        `.accuracy` (before, after, their paired difference with its interval), `.frame()`, `.to_dict()`.

    Raises:
        TurnoutError: one line that names what does not fit: TRL, the model, the exercises, a setting or the folder.
    """
    from turnout.reasoning.grpo.result import GrpoResult
    from turnout.reasoning.grpo.run import KEEP, run
    from turnout.tasks.exercises import digest, load_exercises

    listener = listener or Listener()
    config = GrpoConfig(
        generations=generations,
        problems_per_step=problems_per_step,
        steps=steps,
        learning_rate=learning_rate,
        kl=kl,
        clip=clip,
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        routers=routers,
        problems=problems,
        test_problems=test_problems,
        save_every=save_every,
        seed=seed,
    )
    train_split = load_exercises(tasks, config.problems, "train", config.seed)
    test_split = load_exercises(tasks, config.test_problems, "test", config.seed)
    live, tokenizer, described = resolve_causal(
        model,
        listener,
        adapter=adapter,
        dtype="float32",
        device=device,
        revision=revision,
        trust_remote_code=trust_remote_code,
    )
    inputs = {
        "verb": "grpo",
        "model": described,
        "tasks": digest([*train_split, *test_split]),
        "config": config.describe(),
    }
    with open_run(out, inputs, listener, keep=KEEP) as folder:
        if not folder.complete:
            run(
                live,
                tokenizer,
                train_split,
                test_split,
                config,
                folder,
                listener,
                described=described,
                tasks=str(tasks),
            )
    return folder.load(GrpoResult)
