"""Audit: which experts do the routing, domain by domain (CommitteeAudit, arXiv 2601.03425)."""

from turnout.auditing.comparing.result import Comparison
from turnout.auditing.comparing.run import compare
from turnout.auditing.config import AuditConfig
from turnout.auditing.masking.result import Masking
from turnout.auditing.masking.run import mask, mask_plan
from turnout.auditing.remeasure import remeasure
from turnout.auditing.result import Audit
from turnout.auditing.run import audit

__all__ = ["Audit", "AuditConfig", "Comparison", "Masking", "audit", "compare", "mask", "mask_plan", "remeasure"]
