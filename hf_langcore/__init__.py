"""Find, edit, protect and share the core region of a language model.

Everything public comes from here and is loaded when it is first used: `import hf_langcore` loads neither torch nor
any other heavy library. It is enough, though, to make PEFT and transformers load CORE_REGION adapters: where PEFT
is imported already the method is registered at once, otherwise as soon as PEFT is imported.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hf_langcore import peft_hook
from hf_langcore._version import __version__
from hf_langcore.errors import LangCoreError

if TYPE_CHECKING:
    from hf_langcore.data.mixture import mix_general_data
    from hf_langcore.editing import perturb, scale_dimension, set_dimension
    from hf_langcore.evaluation import PerplexityReport, evaluate_perplexity
    from hf_langcore.importance import compute_core_mask, compute_importance, importance_from_checkpoints
    from hf_langcore.masks import CoreMask, ImportanceScores
    from hf_langcore.scanning import CriticalDimension, find_critical_dimensions
    from hf_langcore.training import CoreFreezeCallback, CoreRegionSFTConfig, CoreRegionSFTTrainer
    from hf_langcore.tuner import CoreRegionConfig, CoreRegionModel

_HOME = {
    "CoreFreezeCallback": "training",
    "CoreMask": "masks",
    "CoreRegionConfig": "tuner",
    "CoreRegionModel": "tuner",
    "CoreRegionSFTConfig": "training",
    "CoreRegionSFTTrainer": "training",
    "CriticalDimension": "scanning",
    "ImportanceScores": "masks",
    "PerplexityReport": "evaluation",
    "compute_core_mask": "importance",
    "compute_importance": "importance",
    "evaluate_perplexity": "evaluation",
    "find_critical_dimensions": "scanning",
    "importance_from_checkpoints": "importance",
    "mix_general_data": "data.mixture",
    "perturb": "editing",
    "scale_dimension": "editing",
    "set_dimension": "editing",
}

__all__ = [
    "CoreFreezeCallback",
    "CoreMask",
    "CoreRegionConfig",
    "CoreRegionModel",
    "CoreRegionSFTConfig",
    "CoreRegionSFTTrainer",
    "CriticalDimension",
    "ImportanceScores",
    "LangCoreError",
    "PerplexityReport",
    "__version__",
    "compute_core_mask",
    "compute_importance",
    "evaluate_perplexity",
    "find_critical_dimensions",
    "importance_from_checkpoints",
    "mix_general_data",
    "perturb",
    "scale_dimension",
    "set_dimension",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its home when it is first used."""
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'hf_langcore' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"hf_langcore.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)


peft_hook.install()
