"""Checkpoint files, read without building a model: checks, routers and gates, sizes."""
