"""Model types of this package's own. transformers learns of them when they are first asked for."""

from importlib import import_module

OWN = {"turnout_aoe": "turnout.models.aoe"}
"""`model_type` → the package that registers it when imported."""


def register_own(model_type: object = None) -> None:
    """Register `model_type` with transformers if it is of this package's own; None registers all that are."""
    for own, package in OWN.items():
        if model_type in (None, own):
            import_module(package)
