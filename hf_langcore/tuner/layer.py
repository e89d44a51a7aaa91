"""A linear layer with adapters that change every weight but the core."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from functools import reduce
from typing import Any

import torch
from peft.tuners._buffer_dict import BufferDict
from peft.tuners.tuners_utils import BaseTunerLayer, check_adapters_to_merge
from torch import nn
from torch.nn import functional as F  # noqa: N812 the name that everybody uses
from transformers.pytorch_utils import Conv1D

from hf_langcore.errors import InputError, ModelChangedError, NonFiniteError
from hf_langcore.masks import PackedBits, unpack_bits
from hf_langcore.tuner.config import CoreRegionConfig


class BrokenAdapterError(NonFiniteError, ValueError):
    """Merging would make weights NaN or infinite; a ValueError too, which is what PEFT's own methods raise."""


class CoreRegionLayer(BaseTunerLayer):  # type: ignore[misc]  # PEFT ships no types
    """The adapters of one layer: their weights, their core masks, merging and unmerging.

    Adapters that act together, in a forward pass or merged, all keep off the union of their cores: a weight that
    one of them protects is changed by none. An adapter that is not active protects nothing, so that loading a
    second adapter does not change what the first one computes.

    Attributes:
        edit_open: The adapters were merged by an edit (`hf_langcore.editing`) that is still open and sets this; the
            merge then belongs to the edit.
    """

    edit_open: bool = False
    adapter_layer_names = ("core_region_A", "core_region_B", "core_region_delta")
    other_param_names = ("core_region_mask", "core_region_dropout", "r", "lora_alpha", "scaling")

    def __init__(self, base_layer: nn.Module) -> None:
        self.base_layer = base_layer
        self.core_region_A = nn.ParameterDict()
        self.core_region_B = nn.ParameterDict()
        self.core_region_delta = nn.ParameterDict()
        self.core_region_mask = BufferDict(persistent=True)
        self.core_region_dropout = nn.ModuleDict()
        self.r: dict[str, int] = {}
        self.lora_alpha: dict[str, float] = {}
        self.scaling: dict[str, float] = {}
        self._disable_adapters = False
        self.merged_adapters: list[str] = []
        self.cast_input_dtype_enabled = True
        self.fan_in_fan_out = isinstance(base_layer, Conv1D)
        self.in_features, self.out_features = _features(base_layer)
        self._weight_before_merge: torch.Tensor | None = None

    @property
    def weight_shape(self) -> tuple[int, int]:
        """Shape of the stored weight: (out, in), for GPT-2's Conv1D (in, out)."""
        shape = (self.out_features, self.in_features)
        return shape[::-1] if self.fan_in_fan_out else shape

    def update_layer(self, adapter_name: str, core: PackedBits | None, *, config: CoreRegionConfig) -> None:
        """Add an adapter.

        Args:
            adapter_name: Its name.
            core: The core of this layer's weight, in the shape that the weight is stored in. None where the bits
                arrive later with the adapter's weights; until then everything is protected.
            config: Rank, scaling and start values.
        """
        if config.r > 0:
            self.core_region_A[adapter_name] = nn.Parameter(torch.empty(config.r, self.in_features))
            self.core_region_B[adapter_name] = nn.Parameter(torch.empty(self.out_features, config.r))
        else:
            self.core_region_delta[adapter_name] = nn.Parameter(torch.empty(self.weight_shape))
        self.core_region_mask[adapter_name] = self._buffer(core)
        dropout = nn.Dropout(config.lora_dropout) if config.lora_dropout > 0 else nn.Identity()
        self.core_region_dropout[adapter_name] = dropout
        self.r[adapter_name] = config.r
        self.lora_alpha[adapter_name] = config.lora_alpha
        self.scaling[adapter_name] = _scaling(config)
        self.reset_parameters(adapter_name, init_weights=config.init_weights)
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def reset_parameters(self, adapter_name: str, *, init_weights: bool = True) -> None:
        """Start values: A random and the rest 0, so that nothing changes; all random if not `init_weights`."""
        for parameters in (self.core_region_A, self.core_region_B, self.core_region_delta):
            if adapter_name in parameters:
                if parameters is self.core_region_A or not init_weights:
                    nn.init.kaiming_uniform_(parameters[adapter_name], a=math.sqrt(5))
                else:
                    nn.init.zeros_(parameters[adapter_name])

    def core_mask(self, adapter_name: str) -> torch.Tensor:
        """The core that an adapter keeps off.

        Returns:
            Boolean tensor in the shape of the stored weight, True = protected.

        Raises:
            InputError: This layer has no such adapter.
        """
        if adapter_name not in self.core_region_mask:
            raise InputError(
                f"This layer has no adapter {adapter_name!r}; it has {sorted(self.core_region_mask.keys())}. Layers "
                "that an adapter does not target are frozen as a whole."
            )
        return self._core([adapter_name])

    def get_delta_weight(self, adapter: str) -> torch.Tensor:
        """What an adapter alone adds to the stored weight, 0 in its core; float32 or wider."""
        wide = torch.promote_types(self.get_base_layer().weight.dtype, torch.float32)
        return self._change(adapter, wide).masked_fill(self._core([adapter]), 0)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:  # noqa: FBT001, FBT002 PEFT's
        """Write the effective weight into the base layer; the core keeps every bit.

        Args:
            safe_merge: Check first that no weight becomes NaN or infinite.
            adapter_names: The adapters; None for the active ones.

        Raises:
            BrokenAdapterError: With `safe_merge`, some would; nothing has been changed then.
        """
        names = self._here(check_adapters_to_merge(self, adapter_names))
        if not names:
            return
        weight = self.get_base_layer().weight.data
        before = weight if self._weight_before_merge is None else self._weight_before_merge.to(weight.device)
        merged = self._effective_weight(before, [*self.merged_adapters, *names])
        if safe_merge and bool((before.isfinite() & ~merged.isfinite()).any()):
            raise BrokenAdapterError(
                f"NaNs detected in the merged weights. The adapter {', '.join(names)} seems to be broken: it makes "
                f"finite weights NaN or infinite in {weight.dtype}. Nothing was merged."
            )
        if self._weight_before_merge is None:
            # Subtracting the change again would not give back every bit. The copy waits on the CPU.
            self._weight_before_merge = weight.to("cpu", copy=True)
        weight.copy_(merged)
        self.merged_adapters = [*self.merged_adapters, *names]

    def unmerge(self) -> None:
        """Put the base layer's weight back, bit for bit."""
        if self._weight_before_merge is None:
            warnings.warn("Already unmerged. Nothing to do.", stacklevel=2)
            return
        self.get_base_layer().weight.data.copy_(self._weight_before_merge)
        self._weight_before_merge = None
        self.merged_adapters = []

    def _require_no_edit(self) -> None:
        if self.edit_open:
            raise ModelChangedError(
                "Adapters cannot be switched off while an edit is open: the edit acts on the base weights with the "
                "adapters merged into them, and unmerging would undo it. Close the edit first, or open the edit "
                "inside disable_adapter() to edit the bare weights."
            )

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:  # noqa: ARG002 PEFT's signature
        """False: a LoRA of low rank near the change would also change the core."""
        return False

    def _here(self, names: Iterable[str]) -> list[str]:
        """Those of the adapters that target this layer."""
        return [name for name in names if name in self.core_region_mask]

    def _core(self, names: Iterable[str]) -> torch.Tensor:
        """Union of the adapters' cores: boolean, in the shape of the stored weight."""
        packed = reduce(torch.bitwise_or, [self.core_region_mask[name] for name in names])
        return unpack_bits(packed, self.weight_shape)

    def _change(self, name: str, dtype: torch.dtype) -> torch.Tensor:
        """What an adapter would add to the stored weight if there were no core."""
        if name in self.core_region_delta:
            dense: torch.Tensor = self.core_region_delta[name].to(dtype)
            return dense
        product: torch.Tensor = self.core_region_B[name].to(dtype) @ self.core_region_A[name].to(dtype)
        return self.scaling[name] * (product.T if self.fan_in_fan_out else product)

    def _effective_weight(self, weight: torch.Tensor, names: list[str]) -> torch.Tensor:
        """`where(core, W, W + change)`; adding a change of 0 would already turn -0.0 into 0.0."""
        wide = torch.promote_types(weight.dtype, torch.float32)
        changed = weight.to(wide)
        with torch.no_grad():
            for name in names:
                changed = changed + self._change(name, wide).to(weight.device)
            return torch.where(self._core(names).to(weight.device), weight, changed.to(weight.dtype))

    def _buffer(self, core: PackedBits | None) -> torch.Tensor:
        """The packed bits as a tensor; all ones where they are not known."""
        if core is None:
            core = PackedBits.from_bool(torch.ones(self.weight_shape, dtype=torch.bool))
        if core.shape != self.weight_shape:
            raise InputError(f"The core must have the weight's shape {self.weight_shape}, got {core.shape}.")
        return torch.from_numpy(core.data.copy())

    def _move_adapter_to_device_of_base_layer(self, adapter_name: str, device: torch.device | None = None) -> None:
        """As in PEFT, but the mask's bits never go to the meta device, where they would be lost."""
        bits = self.core_region_mask[adapter_name]
        super()._move_adapter_to_device_of_base_layer(adapter_name, device)
        if self.core_region_mask[adapter_name].is_meta:
            self.core_region_mask[adapter_name] = bits


class CoreRegionLinear(nn.Module, CoreRegionLayer):
    """nn.Linear or GPT-2's Conv1D with CORE_REGION adapters."""

    active_adapters: list[str]
    _cast_input_dtype: Any

    def __init__(
        self, base_layer: nn.Module, adapter_name: str, core: PackedBits | None, *, config: CoreRegionConfig
    ) -> None:
        super().__init__()
        CoreRegionLayer.__init__(self, base_layer)
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, core, config=config)

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The base layer's output plus what the active adapters add to it.

        Raises:
            ModelChangedError: The adapters are switched off while an edit that merged them is open.
        """
        if self.disable_adapters and self.merged:
            self._require_no_edit()
            self.unmerge()
        result: torch.Tensor = self.base_layer(x, *args, **kwargs)
        names = self._here(self.active_adapters)
        if self.disable_adapters or self.merged or not names:
            return result
        return (result + self._added(x, names)).to(result.dtype)

    def _added(self, x: torch.Tensor, names: list[str]) -> torch.Tensor:
        """What the adapters add to the output: the one place that a faster forward has to replace.

        Masking the change instead of the gradients keeps the core exact, whatever the optimizer does to A and B.
        """
        core = self._core(names)
        outputs = []
        for name in names:
            dtype = self._adapter_dtype(name)
            change = self._change(name, dtype).masked_fill(core, 0)
            inputs = self.core_region_dropout[name](self._cast_input_dtype(x, dtype))
            outputs.append(F.linear(inputs, change.T if self.fan_in_fan_out else change))
        return sum(outputs[1:], start=outputs[0])

    def _adapter_dtype(self, name: str) -> torch.dtype:
        parameters = self.core_region_delta if name in self.core_region_delta else self.core_region_A
        dtype: torch.dtype = parameters[name].dtype
        return dtype

    def __repr__(self) -> str:
        return "core_region." + super().__repr__()


def _features(base_layer: nn.Module) -> tuple[int, int]:
    if isinstance(base_layer, Conv1D):
        return int(base_layer.nx), int(base_layer.nf)
    return int(base_layer.in_features), int(base_layer.out_features)  # type: ignore[arg-type]  # checked by the model


def _scaling(config: CoreRegionConfig) -> float:
    if config.r == 0:
        return 1.0
    return config.lora_alpha / (math.sqrt(config.r) if config.use_rslora else config.r)
