"""Training a MoE from a recipe: data, model, transformers' Trainer, checkpoints that survive a kill."""

from turnout.training.recipe import TrainRecipe
from turnout.training.routing_callback import RoutingCallback
from turnout.training.run import TrainResult, train

__all__ = ["RoutingCallback", "TrainRecipe", "TrainResult", "train"]
