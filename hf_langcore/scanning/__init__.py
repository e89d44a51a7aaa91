"""Scans: where edits and measurements meet."""

from __future__ import annotations

from hf_langcore.scanning.critical import CriticalDimension, find_critical_dimensions

__all__ = ["CriticalDimension", "find_critical_dimensions"]
