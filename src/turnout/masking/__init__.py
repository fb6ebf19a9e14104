"""Masking: what a committee contributes to the answers, against matched controls."""

from turnout.lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "MaskConfig": "turnout.masking.config",
        "MaskPlan": "turnout.masking.config",
        "Masking": "turnout.masking.result",
        "mask_plan": "turnout.masking.run",
    },
)
