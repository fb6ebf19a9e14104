"""Changes to a live model: interventions on routers, router adapters, a MoE from a dense model."""
