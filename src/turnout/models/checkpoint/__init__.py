"""Checkpoint files, read without building a model."""
