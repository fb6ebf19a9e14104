"""Training a MoE from a recipe: data, model, transformers' Trainer, checkpoints that survive a kill."""

from turnout.training.recipe import TrainRecipe
from turnout.training.run import TrainResult, train

__all__ = ["TrainRecipe", "TrainResult", "train"]
