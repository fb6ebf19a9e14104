"""Training of a MoE from a recipe: data, model, transformers' Trainer, checkpoints that survive a kill."""

from turnout.lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "RoutingCallback": "turnout.training.routing_callback",
        "TrainRecipe": "turnout.training.recipe",
        "TrainResult": "turnout.training.result",
        "train": "turnout.api.train",
    },
)
