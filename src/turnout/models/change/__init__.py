"""Changes to a live model: masked experts, router adapters, MoE from dense."""
