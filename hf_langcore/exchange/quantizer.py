"""What quantisers are told to leave alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import nn

from hf_langcore.architecture import unwrap
from hf_langcore.masks import CoreMask

_MATRIX = 2
_HEAD = "lm_head"  # of nearly all causal LMs


def matrices_by_module(core_mask: CoreMask) -> dict[str, list[str]]:
    """Name of each module with matrices -> names of these. Quantisers leave vectors alone anyway."""
    modules: dict[str, list[str]] = {}
    for name, shape in core_mask.shapes().items():
        if len(shape) >= _MATRIX:
            modules.setdefault(name.rpartition(".")[0] or name, []).append(name)
    return modules


def ignore_lists(
    core_mask: CoreMask, chosen: Mapping[str, float], model: nn.Module | None, *, threshold: float | None
) -> dict[str, Any]:
    """The lists under the names of the options that take them, and what they come from.

    Args:
        core_mask: The mask.
        chosen: Module -> share of core weights.
        model: The model, or None.
        threshold: What was asked for.
    """
    names = [*chosen, *(name for name in _heads(model) if name not in chosen)]
    source = core_mask.provenance
    return {
        "core_mask": core_mask.digest(),
        "base_model": source.base_model,
        "base_revision": source.base_revision,
        "threshold": threshold,
        "shares": dict(chosen),
        "llm_int8_skip_modules": names,
        "modules_to_not_convert": names,
        "ignore": names,
        "dynamic": {f"-:^{re.escape(name)}$": {} for name in names},
    }


def _heads(model: nn.Module | None) -> list[str]:
    """The output embeddings, which transformers keeps in high precision unless it is given a list."""
    if model is None:
        return [_HEAD]
    bare: Any = unwrap(model)
    getter = getattr(bare, "get_output_embeddings", None)
    head = getter() if callable(getter) else None
    return [name for name, module in bare.named_modules() if head is not None and module is head]
