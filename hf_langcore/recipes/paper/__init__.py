"""The experiments of the paper and of the talk before it: a workbench, a catalogue, and what runs them."""

from __future__ import annotations
