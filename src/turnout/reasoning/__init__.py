"""Reasoning with final answers: GRPO and self-consistency voting (arXiv 2508.18672)."""
