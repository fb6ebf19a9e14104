"""Transformers MoE models: loading, forward passes, changes, checkpoint files, fast paths."""
