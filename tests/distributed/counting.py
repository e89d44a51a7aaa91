"""Counts changed bits in every place where a strategy holds values; written without the package's own holdings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from strategies import reshard
from torch import nn

from hf_langcore import CoreMask
from hf_langcore.architecture import bare_weights
from hf_langcore.masks import bits_of


class Changed(NamedTuple):
    """Weights whose bits differ from the base: in the core, in the core of float32 masters, elsewhere."""

    core: int
    masters: int
    complement: int
    masters_seen: int


def count_changed(model: nn.Module, base: Mapping[str, torch.Tensor], core_mask: CoreMask) -> Changed:
    """Compare all covered tensors, gathered; all processes must call.

    Args:
        model: The model, prepared by any strategy.
        base: Parameter name -> values before training.
        core_mask: The core.
    """
    reshard(model)
    weights = bare_weights(model)
    core = masters = complement = seen = 0
    for name in core_mask:
        value, master = whole(weights[name].parameter), master_of(weights[name].parameter)
        inside = core_mask[name]
        expected = base[name].to(value.dtype)  # ZeRO rounds a float32 model to its own dtype
        differs = bits_of(value) != bits_of(expected)
        core += int((differs & inside).sum())
        complement += int((differs & ~inside).sum())
        if master is not None:
            seen += int(inside.sum())
            masters += int((bits_of(master) != bits_of(expected.to(master.dtype)))[inside].sum())
    return Changed(core, masters, complement, seen)


def distance(model: nn.Module, base: Mapping[str, torch.Tensor]) -> float:
    """The largest absolute difference of any weight, of its master where there is one, to the base; in all processes."""
    reshard(model)
    largest = 0.0
    for name, weight in bare_weights(model).items():
        master = master_of(weight.parameter)
        value = whole(weight.parameter) if master is None else master
        expected = base[name].to(weight.parameter.dtype).to(value.dtype)
        largest = max(largest, float((value.double() - expected.double()).abs().max()))
    return largest


def whole(parameter: nn.Parameter) -> torch.Tensor:
    """What the model computes with, gathered."""
    held: Any = parameter
    if hasattr(held, "ds_id"):
        from deepspeed.runtime.zero import GatheredParameters

        with GatheredParameters([held]):
            return held.detach().clone()
    value = held.detach()
    return (value.full_tensor() if hasattr(value, "full_tensor") else value).contiguous()


def master_of(parameter: nn.Parameter) -> torch.Tensor | None:
    """The float32 copy that DeepSpeed's optimizer steps, gathered by DeepSpeed itself."""
    if not hasattr(parameter, "ds_id") and not hasattr(parameter, "_hp_mapping"):
        return None
    from deepspeed.utils import safe_get_full_fp32_param

    master: torch.Tensor = safe_get_full_fp32_param(parameter)
    return master.detach().view(parameter.ds_shape if hasattr(parameter, "ds_id") else parameter.shape)
