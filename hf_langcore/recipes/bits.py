"""Did the core stay what it was? Counted on bits, so that -0.0 and NaN count too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import nn

from hf_langcore.architecture import bare_weights
from hf_langcore.masks import CoreMask, bits_of


class Changed(NamedTuple):
    """Numbers of weights whose bits differ: in the core, and elsewhere in the tensors that the mask covers."""

    core: int
    complement: int


def copy_weights(model: nn.Module, core_mask: CoreMask) -> dict[str, torch.Tensor]:
    """The tensors that a mask covers, as they are now."""
    weights = bare_weights(model)
    return {name: weights[name].parameter.detach().clone() for name in core_mask}


def count_changed(model: nn.Module, before: Mapping[str, torch.Tensor], core_mask: CoreMask) -> Changed:
    """Compare the model with an earlier `copy_weights`, bit for bit."""
    weights = bare_weights(model)
    core = complement = 0
    for name, old in before.items():
        differs = bits_of(weights[name].parameter) != bits_of(old)
        inside = core_mask[name].to(differs.device)
        core += int((differs & inside).sum())
        complement += int((differs & ~inside).sum())
    return Changed(core, complement)
