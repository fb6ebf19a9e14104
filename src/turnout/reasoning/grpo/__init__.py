"""GRPO, rewarded for the final answer."""

from turnout.lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    {"GrpoConfig": "turnout.reasoning.grpo.config", "GrpoResult": "turnout.reasoning.grpo.result"},
    former={"Rewarded": "GrpoResult"},
)
