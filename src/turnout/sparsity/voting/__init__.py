"""Self-consistency: many sampled answers a problem, and what voting over them is worth."""

from turnout.sparsity.voting.config import VoteConfig
from turnout.sparsity.voting.result import Votes
from turnout.sparsity.voting.run import vote

__all__ = ["VoteConfig", "Votes", "vote"]
