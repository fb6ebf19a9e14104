"""Self-consistency: many sampled answers a problem, and what voting over them is worth."""

from turnout.reasoning.vote.config import VoteConfig
from turnout.reasoning.vote.result import Votes
from turnout.reasoning.vote.run import vote

__all__ = ["VoteConfig", "Votes", "vote"]
