"""Audit: which experts do the routing, domain by domain (CommitteeAudit, arXiv 2601.03425)."""

from turnout.lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__, {"Audit": "turnout.auditing.result", "AuditConfig": "turnout.auditing.config"}
)
