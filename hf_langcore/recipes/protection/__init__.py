"""Fine-tuning under every protection, with controls: what is learned against what is kept."""

from __future__ import annotations
