"""Methods that train nothing: a question's routing is changed when it is asked (C3PO, the oracle)."""

from turnout.aligning.rerouting.run import Found, Work

__all__ = ["Found", "Work"]
