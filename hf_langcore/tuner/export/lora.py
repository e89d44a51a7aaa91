"""A CORE_REGION adapter as a LoRA that makes the same change and adds exactly 0 in the core.

With the core M, the change is D = (1 - M) * (B @ A), scaling included in B. Setting row i of B to 0 clears row i of the
product, setting column j of A to 0 clears column j. So take rows and columns that together contain the core, clear
them, and give back what lay outside the core in them: one component e_i x D[i, :] for a row, D[:, j] x e_j for a column.
Every core entry is then a sum of exact zeros. Rows and columns that are core as a whole need no component; how few of
the others suffice is a minimum vertex cover.

A change that is 0 nearly everywhere (a dense adapter of few weights, a core of nearly everything) is also the sum over
rows and columns that contain it; the smaller of the two is taken.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig
from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
from transformers.pytorch_utils import Conv1D

from hf_langcore.errors import InputError, UnsupportedModelError
from hf_langcore.files import require_free
from hf_langcore.tuner.embedding import CoreRegionEmbedding
from hf_langcore.tuner.export.cover import Indices, minimum_cover
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

Factors = tuple[torch.Tensor, torch.Tensor]
"""A (rank, in) and B (out, rank)."""


def to_lora(
    tuner: Any, adapter_name: str | None = None, *, max_rank: int | None = None
) -> tuple[LoraConfig, dict[str, torch.Tensor]]:
    """See `AdapterExport.to_lora`."""
    if max_rank is not None and (isinstance(max_rank, bool) or not isinstance(max_rank, int) or max_rank < 1):
        raise InputError(f"max_rank must be a whole number, 1 or larger, or None, got {max_rank!r}.")
    name = chosen_adapter(tuner, adapter_name)
    layers = adapter_layers(tuner, name)
    ranks, state_dict = {}, {}
    for key, layer in layers:
        a, b = lora_factors(key, layer, name, max_rank=max_rank)
        ranks[key] = len(a)
        is_embedding = isinstance(layer, CoreRegionEmbedding)
        pattern = "{}{}.lora_embedding_{}" if is_embedding else "{}{}.lora_{}.weight"
        state_dict[pattern.format(PREFIX, key, "A")] = a
        state_dict[pattern.format(PREFIX, key, "B")] = b
    config = _config(tuner, name, dict(layers), ranks)
    return config, state_dict | trained_in_full(tuner, name, layers)


def save_as_lora(
    tuner: Any,
    folder: str | Path,
    adapter_name: str | None = None,
    *,
    max_rank: int | None = None,
    overwrite: bool = False,
) -> None:
    """See `AdapterExport.save_as_lora`."""
    require_free(folder, overwrite=overwrite)
    config, state_dict = to_lora(tuner, adapter_name, max_rank=max_rank)
    save_adapter(folder, config, state_dict, overwrite=overwrite)


def lora_factors(key: str, layer: CoreRegionLayer, name: str, *, max_rank: int | None = None) -> Factors:
    """The LoRA of one layer, with a scaling of 1.

    Args:
        key: Name of the layer, for messages.
        layer: The layer.
        name: The adapter.
        max_rank: The largest rank that is accepted; None for the adapter's own, or as long as the factors have no more
            numbers than the weight.

    Returns:
        A (rank, in) and B (out, rank), float32 or wider, contiguous, on the adapter's device.

    Raises:
        ExportError: A larger rank is needed.
        NonFiniteError: The change contains NaN or infinity.
        UnsupportedModelError: The layer adapts a single parameter instead of a module.
    """
    if not isinstance(layer, (CoreRegionLinear, CoreRegionEmbedding)):
        raise UnsupportedModelError(
            f"{key!r} adapts single parameters (target_parameters), and PEFT's LoRA cannot express that around a core. "
            "Write a merged checkpoint with save_merged."
        )
    change = masked_change(key, layer, name)
    plan = _plan(oriented(layer, layer.core_mask(name)), change, layer.r[name])
    rows, columns = layer.out_features, layer.in_features
    allowed = max(layer.r[name], rows * columns // (rows + columns)) if max_rank is None else max_rank
    if plan.rank > allowed:
        raise _too_large(key, plan.rank, allowed, by_user=max_rank is not None)
    with torch.no_grad():
        base = _base_factors(layer, name, change.dtype) if plan.keeps_base else None
        return _assembled(plan, change, base)


@dataclass(frozen=True, slots=True)
class _Plan:
    """How a layer's change is written as a LoRA.

    Attributes:
        base_rank: Rank of the adapter's own product, if it is part of the LoRA, else 0.
        rows: Rows that get a component each.
        columns: Columns that get a component each.
        cleared_rows: Rows of the product that are set to 0 without a component.
        cleared_columns: The same for columns.
    """

    base_rank: int
    rows: Indices
    columns: Indices
    cleared_rows: Indices
    cleared_columns: Indices

    @property
    def keeps_base(self) -> bool:
        return self.base_rank > 0

    @property
    def rank(self) -> int:
        return max(1, self.base_rank + len(self.rows) + len(self.columns))


def _plan(core: torch.Tensor, change: torch.Tensor, rank: int) -> _Plan:
    """The smaller of: the adapter's product with the core cleared, and the rows and columns of the change alone."""
    nothing = np.empty(0, dtype=np.intp)
    if rank > 0 and not bool(core.any()):
        return _Plan(rank, nothing, nothing, nothing, nothing)
    changed = change != 0
    if rank == 0:
        return _Plan(0, *minimum_cover(changed.cpu().numpy()), nothing, nothing)
    full_rows, full_columns = core.all(dim=1), core.all(dim=0)
    rows, columns = minimum_cover((core & ~full_rows[:, None] & ~full_columns).cpu().numpy())
    cleared = (full_rows.cpu().numpy().nonzero()[0], full_columns.cpu().numpy().nonzero()[0])
    around = _Plan(rank, rows, columns, *cleared)
    if _needed_at_least(changed) >= around.rank:
        return around
    alone = _Plan(0, *minimum_cover(changed.cpu().numpy()), nothing, nothing)
    return alone if alone.rank < around.rank else around


def _needed_at_least(marked: torch.Tensor) -> float:
    """A lower bound of the size of a cover, at little cost: no row or column covers more than the fullest one."""
    fullest = max(int(marked.sum(dim=axis).max()) for axis in (0, 1))
    return int(marked.count_nonzero()) / fullest if fullest else 0.0


def _base_factors(layer: CoreRegionLayer, name: str, dtype: torch.dtype) -> Factors:
    a, b = layer.core_region_A[name].to(dtype), layer.core_region_B[name].to(dtype)
    return a.clone(), layer.scaling[name] * b


def _assembled(plan: _Plan, change: torch.Tensor, base: Factors | None) -> Factors:
    out_features, in_features = change.shape
    rows, columns = torch.from_numpy(plan.rows), torch.from_numpy(plan.columns)
    a, b = change.new_zeros(plan.rank, in_features), change.new_zeros(out_features, plan.rank)
    first = plan.base_rank
    if base is not None:
        a[:first], b[:, :first] = base
        a[:first, torch.cat([columns, torch.from_numpy(plan.cleared_columns)])] = 0
        b[torch.cat([rows, torch.from_numpy(plan.cleared_rows)]), :first] = 0
    in_rows = torch.arange(first, first + len(rows))
    in_columns = torch.arange(first + len(rows), first + len(rows) + len(columns))
    b[rows, in_rows] = 1
    a[in_rows] = change[rows]
    a[in_columns, columns] = 1
    b[:, in_columns] = change[:, columns]
    b[rows[:, None], in_columns[None, :]] = 0  # these entries are in the rows already
    return a, b


def _config(tuner: Any, name: str, layers: dict[str, CoreRegionLayer], ranks: dict[str, int]) -> LoraConfig:
    source = tuner.peft_config[name]
    # The largest rank is the default: programs that read only `r` reserve room for it. Scaling is 1 everywhere.
    rank = max(ranks.values())
    # PEFT takes these keys for regular expressions that match at the end of a name.
    patterns = {f"^{re.escape(key)}": other for key, other in ranks.items() if other != rank}
    config = LoraConfig(
        **common_options(tuner, name),
        r=rank,
        lora_alpha=rank,
        lora_dropout=source.lora_dropout,
        rank_pattern=patterns,
        alpha_pattern=dict(patterns),
        fan_in_fan_out=any(isinstance(layer.get_base_layer(), Conv1D) for layer in layers.values()),
        trainable_token_indices=copy.deepcopy(source.trainable_token_indices),
    )
    set_targets(config, tuner, list(ranks))
    _require_loadable(config, tuner.model)
    return config


def _require_loadable(config: LoraConfig, model: Any) -> None:
    """PEFT gives LoRA targets of some mixture-of-experts models other names while loading: refuse what that would hit.

    Raises:
        UnsupportedModelError: The LoRA would be loaded into other places.
    """
    renamed = copy.deepcopy(config)
    try:
        convert_peft_config_for_transformers(renamed, model=model, conversions=None)
    except ValueError as error:
        problem = str(error)
    else:
        if renamed.target_modules == config.target_modules:
            return
        problem = f"it would target {renamed.target_parameters} instead"
    raise UnsupportedModelError(
        f"PEFT could not load this LoRA: it takes targets of {type(model).__name__} for those of an older form of the model "
        f"({problem}). Write a merged checkpoint with save_merged, or leave these modules out of target_modules."
    )


def _too_large(key: str, needed: int, allowed: int, *, by_user: bool) -> ExportError:
    limit = (
        f"max_rank={allowed} allows {allowed}" if by_user else f"from {allowed + 1} on it is larger than the weight"
    )
    return ExportError(
        f"The change of {key!r} cannot be written as a LoRA: leaving its core out exactly takes rank {needed}, and {limit}. "
        "Scattered core weights need a component for nearly every row. Write a merged checkpoint with save_merged, or "
        "train around a core of whole rows, columns or dimensions, which costs no rank at all."
    )
