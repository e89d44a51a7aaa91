"""nn.Linear and GPT-2's Conv1D with CORE_REGION adapters."""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from hf_langcore.masks import PackedBits
from hf_langcore.tuner.config import CoreRegionConfig
from hf_langcore.tuner.cores import Elsewhere, LayerCore
from hf_langcore.tuner.dequantizing import was_conv1d
from hf_langcore.tuner.layer import CoreRegionLayer, is_traced
from hf_langcore.tuner.masked_linear import Change, Plan, masked_product, plain_product
from hf_langcore.tuner.plans import choose, situation_of


class CoreRegionLinear(nn.Module, CoreRegionLayer):
    """nn.Linear, GPT-2's Conv1D or a quantised linear layer with CORE_REGION adapters.

    Masking the change instead of the gradients keeps the core exact, whatever the optimizer does to A and B.
    """

    def __init__(
        self,
        base_layer: nn.Module,
        adapter_name: str,
        core: PackedBits | None,
        *,
        config: CoreRegionConfig,
        key: str = "",
        is_tied: bool = False,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        super().__init__()
        self.fan_in_fan_out = isinstance(base_layer, Conv1D) or was_conv1d(base_layer)
        CoreRegionLayer.__init__(self, base_layer, is_tied=is_tied, elsewhere=elsewhere)
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, core, config=config, key=key)

    forward = CoreRegionLayer.forward
    extra_repr = CoreRegionLayer.extra_repr

    def _features(self) -> tuple[int, int]:
        base: Any = self.get_base_layer()
        if isinstance(base, Conv1D):
            return int(base.nx), int(base.nf)
        return int(base.in_features), int(base.out_features)

    def _adapted(self, x: torch.Tensor, names: list[str], core: LayerCore, *args: Any, **kwargs: Any) -> torch.Tensor:
        """One product with the effective weight where that is possible and cheapest."""
        if not args and not kwargs and self._weight_is_at_hand(x, names):
            change = self._change(names, x.dtype)
            plan = self._plan(x, change, core, has_weight=True)
            if plan.forward == "merged":
                base: Any = self.get_base_layer()
                return masked_product(
                    x, change, core, plan=plan, weight=base.weight, bias=base.bias, transposed=self.fan_in_fan_out
                )
        return super()._adapted(x, names, core, *args, **kwargs)

    def _added(self, x: torch.Tensor, names: list[str], core: LayerCore) -> torch.Tensor:
        if not any(self._drops(name) for name in names):
            return self._product(x, names, core)
        outputs = [self._product(self.core_region_dropout[name](x), [name], core) for name in names]
        return sum(outputs[1:], start=outputs[0])

    def _product(self, x: torch.Tensor, names: list[str], core: LayerCore) -> torch.Tensor:
        """`x` times what some adapters add outside the core."""
        dtype = self._product_dtype(x, names)
        x, change = self._cast_input_dtype(x, dtype), self._change(names, dtype)
        if is_traced():
            return plain_product(x, change, core, transposed=self.fan_in_fan_out)
        plan = self._plan(x, change, core, has_weight=False)
        return masked_product(x, change, core, plan=plan, transposed=self.fan_in_fan_out)

    def _plan(self, x: torch.Tensor, change: Change, core: LayerCore, *, has_weight: bool) -> Plan:
        factors = [part for part in (x, change.left, change.right, change.dense) if part is not None]
        trains = torch.is_grad_enabled() and any(part.requires_grad for part in factors)
        options: dict[str, bool] = {"has_weight": has_weight, "transposed": self.fan_in_fan_out, "trains": trains}
        return choose(situation_of(x, change, core, **options), core)

    def _weight_is_at_hand(self, x: torch.Tensor, names: list[str]) -> bool:
        """Whether the product with the base weight may be made here instead of by the base layer itself."""
        base: Any = self.get_base_layer()
        if type(base) not in {nn.Linear, Conv1D} or is_traced() or torch.is_autocast_enabled(x.device.type):
            return False
        parameters = [parameter for parameter in (base.weight, base.bias) if parameter is not None]
        return (
            x.dtype in {torch.float32, torch.float64}
            and not base._forward_hooks  # noqa: SLF001 whoever put a hook there wants the base layer to run
            and not base._forward_pre_hooks  # noqa: SLF001
            and not hasattr(base, "_hf_hook")
            and all(type(parameter) is nn.Parameter and not parameter.requires_grad for parameter in parameters)
            and all(parameter.dtype == x.dtype for parameter in parameters)
            and all(self._adapter_dtype(name) == x.dtype and not self._drops(name) for name in names)
            and base.weight.shape == self.weight_shape  # not while DeepSpeed has it in pieces
            and base.weight.device == x.device
        )

    def _product_dtype(self, x: torch.Tensor, names: list[str]) -> torch.dtype:
        device = x.device.type
        if torch.is_autocast_enabled(device) and x.dtype != torch.float64:
            return torch.get_autocast_dtype(device)
        return reduce(torch.promote_types, map(self._adapter_dtype, names))

    def _adapter_dtype(self, name: str) -> torch.dtype:
        parameters = self.core_region_delta if name in self.core_region_delta else self.core_region_A
        dtype: torch.dtype = parameters[name].dtype
        return dtype

    def _drops(self, name: str) -> bool:
        return self.training and isinstance(self.core_region_dropout[name], nn.Dropout)

    def __repr__(self) -> str:
        return "core_region." + super().__repr__()
