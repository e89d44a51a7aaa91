"""Edits of weights that can be taken back bit for bit."""

from __future__ import annotations

from hf_langcore.editing.edits import perturb, scale_dimension, set_dimension
from hf_langcore.editing.handle import EditHandle, restore_all

__all__ = ["EditHandle", "perturb", "restore_all", "scale_dimension", "set_dimension"]
