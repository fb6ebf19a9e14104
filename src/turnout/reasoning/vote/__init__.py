"""Self-consistency: majority votes over many sampled answers."""

from turnout.lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    {"VoteConfig": "turnout.reasoning.vote.config", "VoteResult": "turnout.reasoning.vote.result"},
    former={"Votes": "VoteResult"},
)
