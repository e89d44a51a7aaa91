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
    from hf_langcore import registry as registry
    from hf_langcore.auditing import AuditReport, audit_rows
    from hf_langcore.compression import evaluate_compression
    from hf_langcore.data import pair_texts
    from hf_langcore.data.mixture import mix_general_data
    from hf_langcore.editing import perturb, scale_dimension, set_dimension
    from hf_langcore.editing.region_merge import merge_regions
    from hf_langcore.evaluation import PerplexityReport, evaluate_echo, evaluate_perplexity
    from hf_langcore.exchange import export_core_mask, import_core_mask
    from hf_langcore.hub.records import EvalResults
    from hf_langcore.hub.results import load_eval_results, push_eval_results
    from hf_langcore.hub.search import list_core_masks
    from hf_langcore.importance import compute_core_mask, compute_importance, importance_from_checkpoints
    from hf_langcore.instructions import load_instructions
    from hf_langcore.knowledge import evaluate_knowledge
    from hf_langcore.mask_builder import freeze_mask
    from hf_langcore.masks import CoreMask, ImportanceScores
    from hf_langcore.probing import align_relations, probe_layers
    from hf_langcore.replay import ReplaySettings, generate_general_data
    from hf_langcore.scanning import CriticalDimension, CriticalScan, find_critical_dimensions
    from hf_langcore.sinks import find_massive_activations, sink_or_language
    from hf_langcore.switching import code_switching_rate
    from hf_langcore.training import (
        AnchorCallback,
        CoreFreezeCallback,
        CoreRegionSFTConfig,
        CoreRegionSFTTrainer,
        LanguageSentinel,
    )
    from hf_langcore.tuner import CoreRegionConfig, CoreRegionModel
    from hf_langcore.vocabulary import extend_vocabulary

_HOME = {
    "AnchorCallback": "training",
    "AuditReport": "auditing",
    "CoreFreezeCallback": "training",
    "CoreMask": "masks",
    "CoreRegionConfig": "tuner",
    "CoreRegionModel": "tuner",
    "CoreRegionSFTConfig": "training",
    "CoreRegionSFTTrainer": "training",
    "CriticalDimension": "scanning",
    "CriticalScan": "scanning",
    "EvalResults": "hub.records",
    "ImportanceScores": "masks",
    "LanguageSentinel": "training",
    "PerplexityReport": "evaluation",
    "ReplaySettings": "replay",
    "align_relations": "probing",
    "audit_rows": "auditing",
    "code_switching_rate": "switching",
    "compute_core_mask": "importance",
    "compute_importance": "importance",
    "evaluate_compression": "compression",
    "evaluate_echo": "evaluation",
    "evaluate_knowledge": "knowledge",
    "evaluate_perplexity": "evaluation",
    "export_core_mask": "exchange",
    "extend_vocabulary": "vocabulary",
    "find_critical_dimensions": "scanning",
    "find_massive_activations": "sinks",
    "freeze_mask": "mask_builder",
    "generate_general_data": "replay",
    "import_core_mask": "exchange",
    "importance_from_checkpoints": "importance",
    "list_core_masks": "hub.search",
    "load_eval_results": "hub.results",
    "load_instructions": "instructions",
    "merge_regions": "editing.region_merge",
    "mix_general_data": "data.mixture",
    "pair_texts": "data",
    "perturb": "editing",
    "probe_layers": "probing",
    "push_eval_results": "hub.results",
    "scale_dimension": "editing",
    "set_dimension": "editing",
    "sink_or_language": "sinks",
}
_MODULES = ("registry",)

__all__ = [
    "AnchorCallback",
    "AuditReport",
    "CoreFreezeCallback",
    "CoreMask",
    "CoreRegionConfig",
    "CoreRegionModel",
    "CoreRegionSFTConfig",
    "CoreRegionSFTTrainer",
    "CriticalDimension",
    "CriticalScan",
    "EvalResults",
    "ImportanceScores",
    "LangCoreError",
    "LanguageSentinel",
    "PerplexityReport",
    "ReplaySettings",
    "__version__",
    "align_relations",
    "audit_rows",
    "code_switching_rate",
    "compute_core_mask",
    "compute_importance",
    "evaluate_compression",
    "evaluate_echo",
    "evaluate_knowledge",
    "evaluate_perplexity",
    "export_core_mask",
    "extend_vocabulary",
    "find_critical_dimensions",
    "find_massive_activations",
    "freeze_mask",
    "generate_general_data",
    "import_core_mask",
    "importance_from_checkpoints",
    "list_core_masks",
    "load_eval_results",
    "load_instructions",
    "merge_regions",
    "mix_general_data",
    "pair_texts",
    "perturb",
    "probe_layers",
    "push_eval_results",
    "registry",
    "scale_dimension",
    "set_dimension",
    "sink_or_language",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its home when it is first used."""
    if name in _MODULES:
        return importlib.import_module(f"hf_langcore.{name}")
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'hf_langcore' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"hf_langcore.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)


peft_hook.install()
