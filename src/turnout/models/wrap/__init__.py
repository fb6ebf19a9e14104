"""Transformers models as routers and experts: the router contract, anatomy, loading, devices, gate matrices."""
