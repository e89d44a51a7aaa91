"""What every experiment works with: the workbench, the texts, the catalogue, and what runs it."""

from __future__ import annotations
