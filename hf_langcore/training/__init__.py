"""Fine-tuning that leaves the core alone: the freeze for any Trainer, and TRL's SFTTrainer with general data.

`CoreFreezeCallback` needs transformers only; the other two load TRL when they are asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hf_langcore.extras import require
from hf_langcore.training.anchor import AnchorCallback
from hf_langcore.training.freeze import CoreFreezeCallback
from hf_langcore.training.freezer import CoreFreezer
from hf_langcore.training.sentinel import LanguageSentinel

if TYPE_CHECKING:
    from hf_langcore.training.config import CoreRegionSFTConfig
    from hf_langcore.training.trainer import CoreRegionSFTTrainer

__all__ = [
    "AnchorCallback",
    "CoreFreezeCallback",
    "CoreFreezer",
    "CoreRegionSFTConfig",
    "CoreRegionSFTTrainer",
    "LanguageSentinel",
]

_NEED_TRL = {
    "CoreRegionSFTConfig": "hf_langcore.training.config",
    "CoreRegionSFTTrainer": "hf_langcore.training.trainer",
}


def __getattr__(name: str) -> Any:
    if name not in _NEED_TRL:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require("trl", extra="train", feature=name)
    return getattr(require(_NEED_TRL[name], extra="train", feature=name), name)
