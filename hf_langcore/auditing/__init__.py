"""Noise in training rows: found, scored by the base model, and left out of a copy."""

from __future__ import annotations

from hf_langcore.auditing.audit import audit_rows
from hf_langcore.auditing.copies import write_audit
from hf_langcore.auditing.findings import CHECKS, KINDS, Finding
from hf_langcore.auditing.report import AuditReport

__all__ = ["CHECKS", "KINDS", "AuditReport", "Finding", "audit_rows", "write_audit"]
