"""Scans: where edits and measurements meet."""

from __future__ import annotations

from hf_langcore.scanning.critical import find_critical_dimensions
from hf_langcore.scanning.losses import WindowLosses, measure
from hf_langcore.scanning.result import Control, CriticalDimension, CriticalScan, DimensionMap, JointEffect
from hf_langcore.scanning.statistics import Interval, ratio_interval, share_interval

__all__ = [
    "Control",
    "CriticalDimension",
    "CriticalScan",
    "DimensionMap",
    "Interval",
    "JointEffect",
    "WindowLosses",
    "find_critical_dimensions",
    "measure",
    "ratio_interval",
    "share_interval",
]
