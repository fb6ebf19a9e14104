"""Exercises with final answers: GRPO and self-consistency voting (arXiv 2508.18672)."""

from turnout.lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "GrpoConfig": "turnout.reasoning.grpo.config",
        "GrpoResult": "turnout.reasoning.grpo.result",
        "VoteConfig": "turnout.reasoning.vote.config",
        "VoteResult": "turnout.reasoning.vote.result",
    },
)
