"""Turnout: the routing of Mixture-of-Experts language models, audited, aligned, coupled and sized."""
