"""Merge configurations of mergekit.

mergekit knows no masks: a parameter of a merge is one number for each tensor, and a filter is a part of a tensor's name of
which the first that fits counts. `linear` with weights 0 and 1 takes a tensor from one model or the other without rounding.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from hf_langcore.masks import CoreMask


def merge_config(
    core_mask: CoreMask, chosen: Collection[str], *, core_from: str, complement_from: str
) -> dict[str, Any]:
    """What `mergekit-yaml` reads.

    Args:
        core_mask: The mask.
        chosen: Names of the tensors to take from `core_from`.
        core_from: Folder or Hub id.
        complement_from: Folder or Hub id of the model of which all other tensors are taken.
    """
    return {
        "merge_method": "linear",
        "models": [
            {"model": complement_from, "parameters": {"weight": _weights(core_mask, chosen, inside=0.0)}},
            {"model": core_from, "parameters": {"weight": _weights(core_mask, chosen, inside=1.0)}},
        ],
        "parameters": {"normalize": False},
    }


def _weights(core_mask: CoreMask, chosen: Collection[str], *, inside: float) -> list[dict[str, Any]]:
    """One entry for each chosen tensor, and before it one for each other tensor whose name contains that of a chosen one."""
    outside = 1.0 - inside
    taken = set(chosen)
    confused = [name for name in core_mask if name not in taken and any(one in name for one in taken)]
    values = {**dict.fromkeys(taken, inside), **dict.fromkeys(confused, outside)}
    ordered = sorted(values, key=lambda name: (-len(name), name))
    return [*({"filter": name, "value": values[name]} for name in ordered), {"value": outside}]
