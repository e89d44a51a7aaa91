"""CORE_REGION, a PEFT method: low-rank or dense adapters that never touch the core of a model."""

from __future__ import annotations

from hf_langcore.tuner.config import CoreRegionConfig
from hf_langcore.tuner.embedding import CoreRegionEmbedding
from hf_langcore.tuner.layer import CoreRegionLayer
from hf_langcore.tuner.linear import CoreRegionLinear
from hf_langcore.tuner.model import CoreRegionModel
from hf_langcore.tuner.registration import register

__all__ = [
    "CoreRegionConfig",
    "CoreRegionEmbedding",
    "CoreRegionLayer",
    "CoreRegionLinear",
    "CoreRegionModel",
    "register",
]
