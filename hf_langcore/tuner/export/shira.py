"""A CORE_REGION adapter as a SHiRA adapter: a list of single weights and what is added to them.

SHiRA has r * (in + out) entries in every layer, with the same r everywhere; PEFT refuses an r that would make this more
than a layer's weights. Entries are chosen by size, so a smaller r loses the smallest changes; none of them is core.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import ShiraConfig
from torch import nn

from hf_langcore.errors import InputError, UnsupportedModelError
from hf_langcore.files import require_free
from hf_langcore.tuner.export.parts import (
    PREFIX,
    ExportError,
    adapter_layers,
    chosen_adapter,
    common_options,
    masked_change,
    oriented,
    save_adapter,
    set_targets,
    trained_in_full,
)
from hf_langcore.tuner.layer import CoreRegionLayer
from hf_langcore.tuner.linear import CoreRegionLinear

MASK_TYPE = "core_region"
"""PEFT draws random positions for mask_type "random" and replaces them by the file's; with any other name it does not."""


def to_shira(
    tuner: Any, adapter_name: str | None = None, *, r: int | None = None
) -> tuple[ShiraConfig, dict[str, torch.Tensor]]:
    """See `AdapterExport.to_shira`."""
    name = chosen_adapter(tuner, adapter_name)
    layers = dict(adapter_layers(tuner, name))
    for key, layer in layers.items():
        _require_linear(key, layer)
    if tuner.peft_config[name].trainable_token_indices is not None:
        raise UnsupportedModelError(
            "SHiRA has no trainable tokens (trainable_token_indices). Write a LoRA (save_as_lora) or a merged checkpoint "
            "(save_merged)."
        )
    rank = _lossless_rank(layers, name) if r is None else _checked(r, layers)
    state_dict: dict[str, torch.Tensor] = {}
    kept = Kept()
    for key, layer in layers.items():
        values, places = shira_entries(key, layer, name, r=rank, kept=kept)
        state_dict[f"{PREFIX}{key}.shira_weight"] = values
        state_dict[f"{PREFIX}{key}.shira_indices"] = places
    if kept.lost:
        warnings.warn(
            f"SHiRA with r={rank} keeps {kept.share:.2%} of the change's squared norm: the {kept.lost:,} smallest changes "
            f"are left out. The largest r here is {_largest_rank(layers)[0]}.",
            stacklevel=3,
        )
    config = ShiraConfig(**common_options(tuner, name), r=rank, mask_type=MASK_TYPE)
    set_targets(config, tuner, list(layers))
    return config, state_dict | trained_in_full(tuner, name, list(layers.items()))


def save_as_shira(
    tuner: Any, folder: str | Path, adapter_name: str | None = None, *, r: int | None = None, overwrite: bool = False
) -> None:
    """See `AdapterExport.save_as_shira`."""
    require_free(folder, overwrite=overwrite)
    config, state_dict = to_shira(tuner, adapter_name, r=r)
    save_adapter(folder, config, state_dict, overwrite=overwrite)


@dataclass(slots=True)
class Kept:
    """What a choice of entries keeps of the changes, summed over layers.

    Attributes:
        kept: Squared norm of the changes that are kept.
        total: Squared norm of all changes.
        lost: Number of changes that are not kept.
    """

    kept: float = 0.0
    total: float = 0.0
    lost: int = 0

    @property
    def share(self) -> float:
        """Share of the squared norm, 0 to 1."""
        return self.kept / self.total if self.lost else 1.0

    def add(self, values: torch.Tensor, change: torch.Tensor) -> None:
        """Count one layer."""
        self.kept += float(values.double().square().sum())
        self.total += float(change.double().square().sum())
        self.lost += int(change.count_nonzero() - values.count_nonzero())


def shira_entries(
    key: str, layer: CoreRegionLayer, name: str, *, r: int, kept: Kept | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest changes of one layer.

    Args:
        key: Name of the layer, for messages.
        layer: The layer.
        name: The adapter.
        r: r * (in + out) entries are taken: the largest changes, then places without a change, then, where nothing else
            is left, places in the core with the value 0.
        kept: Where to count what is kept.

    Returns:
        Values (entries,), float32 or wider, and places (2, entries), int32: rows and columns in nn.Linear's
        orientation, in the order of the flattened weight.
    """
    change = masked_change(key, layer, name).contiguous()
    size = change.abs().masked_fill_(oriented(layer, layer.core_mask(name)), -1)
    flat = size.view(-1).topk(r * sum(change.shape)).indices.sort().values
    values = change.view(-1)[flat]
    if kept is not None:
        kept.add(values, change)
    rows = torch.div(flat, change.shape[1], rounding_mode="floor")
    return values, torch.stack([rows, flat % change.shape[1]]).to(torch.int32)


def _require_linear(key: str, layer: CoreRegionLayer) -> None:
    base = layer.get_base_layer()
    if not isinstance(layer, CoreRegionLinear) or not isinstance(base, nn.Linear):
        raise UnsupportedModelError(
            f"{key!r} is a {type(base).__name__}, and PEFT's SHiRA supports nn.Linear only. Write a LoRA (save_as_lora) or "
            "a merged checkpoint (save_merged)."
        )


def _largest_rank(layers: Mapping[str, CoreRegionLayer]) -> tuple[int, str]:
    """The largest r that PEFT accepts for all layers, and the layer that allows no more."""
    return min((math.prod(layer.weight_shape) // sum(layer.weight_shape), key) for key, layer in layers.items())


def _lossless_rank(layers: Mapping[str, CoreRegionLayer], name: str) -> int:
    """The smallest r with which no layer loses a change.

    Raises:
        ExportError: There is none.
    """
    largest, narrowest = _largest_rank(layers)
    needed, widest = 1, narrowest
    for key, layer in layers.items():
        changes = int(masked_change(key, layer, name).count_nonzero())
        needed, widest = max((needed, widest), (-(-changes // sum(layer.weight_shape)), key))
    if needed <= largest:
        return needed
    kept = Kept()
    for key, layer in layers.items():
        shira_entries(key, layer, name, r=largest, kept=kept)
    raise ExportError(
        f"No SHiRA adapter holds the whole change: {widest!r} needs r={needed}, and {narrowest!r} allows r={largest} at "
        f"most (SHiRA has one r for all layers). With r={largest} it would keep {kept.share:.2%} of the change's squared "
        f"norm: pass r={largest} to accept that, or write a merged checkpoint with save_merged."
    )


def _checked(r: Any, layers: Mapping[str, CoreRegionLayer]) -> int:
    if isinstance(r, bool) or not isinstance(r, int) or r < 1:
        raise InputError(f"r must be a whole number, 1 or larger, or None, got {r!r}.")
    largest, narrowest = _largest_rank(layers)
    if r > largest:
        raise InputError(
            f"r={r} would take more entries than {narrowest!r} has weights, which PEFT refuses: the largest r is {largest}."
        )
    return r
