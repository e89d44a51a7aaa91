"""Masks in the formats of other projects: what they wrote can be used here, and the other way round."""

from __future__ import annotations

from hf_langcore.exchange.exporting import export_core_mask
from hf_langcore.exchange.importing import import_core_mask

__all__ = ["export_core_mask", "import_core_mask"]
