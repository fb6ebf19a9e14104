"""Routing that was recorded elsewhere, as a run."""
