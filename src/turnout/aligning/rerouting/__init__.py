"""Rerouting methods, which train nothing: they change each evaluation question's routing (C3PO, the oracle)."""
