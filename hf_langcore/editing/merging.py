"""Active adapters become part of the weights while an edit is open, and come out again bit for bit.

Known by what PEFT's tuner layers can do (`merge`, `unmerge`), without importing PEFT. Most adapters unmerge by
subtraction, which does not give the old bits back, so the base weights are kept meanwhile.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from hf_langcore.architecture import Weight
from hf_langcore.modes import adapter_layers


class MergedAdapters:
    """Merges every active, unmerged adapter of a model until `undo()`."""

    def __init__(self, model: nn.Module) -> None:
        self._layers: list[tuple[Any, dict[str, torch.Tensor]]] = []
        try:
            for layer in adapter_layers(model):
                if _is_active(layer):
                    self._merge(layer)
        except BaseException:
            self.undo()
            raise

    @property
    def is_empty(self) -> bool:
        """Whether no adapter was merged."""
        return not self._layers

    def undo(self) -> None:
        """Take the adapters out again, also where somebody has unmerged them meanwhile."""
        while self._layers:
            layer, before = self._layers.pop()
            layer.edit_open = False
            if layer.merged:
                layer.unmerge()
            with torch.no_grad():
                for name, parameter in layer.get_base_layer().named_parameters():
                    parameter.copy_(before[name])

    def value_before(self, weight: Weight) -> torch.Tensor | None:
        """The base value of a weight that was merged into; None where no adapter was."""
        for layer, before in self._layers:
            base = layer.get_base_layer()
            for name, parameter in base.named_parameters():
                if parameter is weight.parameter:
                    return before[name]
        return None

    def was_taken_out(self, weight: Weight) -> bool:
        """Whether somebody else has unmerged the adapter that was merged into a weight."""
        return any(
            not layer.merged
            and any(parameter is weight.parameter for parameter in layer.get_base_layer().parameters())
            for layer, _ in self._layers
        )

    def _merge(self, layer: Any) -> None:
        before = {name: parameter.detach().clone() for name, parameter in layer.get_base_layer().named_parameters()}
        self._layers.append((layer, before))
        layer.merge()
        layer.edit_open = True  # CORE_REGION layers refuse to unmerge meanwhile


def _is_active(layer: Any) -> bool:
    can_merge = hasattr(layer, "merge") and hasattr(layer, "unmerge") and hasattr(layer, "get_base_layer")
    return can_merge and not layer.disable_adapters and not layer.merged and bool(layer.active_adapters)
