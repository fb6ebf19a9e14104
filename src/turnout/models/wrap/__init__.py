"""Transformers models as routers and experts: loading, anatomy, the router contract."""
