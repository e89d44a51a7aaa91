"""Importance: one non-negative number per weight, and the core masks that follow from it."""

from __future__ import annotations

from hf_langcore.importance.checkpoints import importance_from_checkpoints
from hf_langcore.importance.compute import compute_core_mask, compute_importance

__all__ = ["compute_core_mask", "compute_importance", "importance_from_checkpoints"]
