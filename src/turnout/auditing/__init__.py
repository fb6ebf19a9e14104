"""Audit: which experts do the routing, domain by domain (CommitteeAudit, arXiv 2601.03425)."""

from turnout.auditing.config import AuditConfig
from turnout.auditing.remeasure import remeasure
from turnout.auditing.result import Audit
from turnout.auditing.run import audit

__all__ = ["Audit", "AuditConfig", "audit", "remeasure"]
