"""What all layers with CORE_REGION adapters have in common: their numbers, their cores, merging and unmerging."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from typing import Any

import torch
from peft.tuners._buffer_dict import BufferDict
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import resolve_quantization_backend
from peft.utils.other import get_pattern_key
from torch import nn

from hf_langcore.errors import InputError, ModelChangedError
from hf_langcore.masks import PackedBits
from hf_langcore.tuner.config import CoreRegionConfig
from hf_langcore.tuner.cores import Elsewhere, LayerCore
from hf_langcore.tuner.masked_linear import Change
from hf_langcore.tuner.merging import MergingLayer

BASE = "__base__"
"""PEFT's name, in mixed batches, for no adapter."""


class CoreRegionLayer(MergingLayer, BaseTunerLayer):  # type: ignore[misc]  # PEFT ships no types
    """The adapters of one layer: their weights, their core masks, merging and unmerging.

    Adapters that act together, in a forward pass or merged, all keep off the union of their cores: a weight that
    one of them protects is changed by none. An adapter that is not active protects nothing, so that loading a
    second adapter does not change what the first one computes. In a mixed batch each row has its own adapter only.

    Attributes:
        edit_open: The adapters were merged by an edit (`hf_langcore.editing`) that is still open and sets this; the
            merge then belongs to the edit.
        parameter_name: Name of the base layer's parameter that the adapters change.
        fan_in_fan_out: The parameter is stored as (in, out), where nn.Linear has (out, in).
    """

    edit_open: bool = False
    adapter_layer_names = ("core_region_A", "core_region_B", "core_region_delta")
    other_param_names = ("core_region_mask", "core_region_dropout", "r", "lora_alpha", "scaling", "_initial_scaling")
    parameter_name = "weight"
    fan_in_fan_out = False

    # What PEFT's base class has, for the type checker.
    base_layer: Any
    active_adapters: list[str]
    get_base_layer: Callable[[], Any]
    _cast_input_dtype: Callable[[torch.Tensor, torch.dtype], torch.Tensor]
    _get_embed_scale: Callable[[], torch.Tensor | None]

    def __init__(self, base_layer: nn.Module, *, is_tied: bool = False, elsewhere: Elsewhere | None = None) -> None:
        self.base_layer = base_layer
        self._elsewhere = elsewhere or Elsewhere({}, "")
        self.core_region_A = nn.ParameterDict()
        self.core_region_B = nn.ParameterDict()
        self.core_region_delta = nn.ParameterDict()
        self.core_region_mask = BufferDict(persistent=True)
        self.core_region_dropout = nn.ModuleDict()
        self.r: dict[str, int] = {}
        self.lora_alpha: dict[str, float] = {}
        self.scaling: dict[str, float] = {}
        self._merging: list[str] = []
        self._initial_scaling: dict[str, float] = {}
        self._disable_adapters = False
        self.merged_adapters: list[str] = []
        self.cast_input_dtype_enabled = True
        self.quantization_backend = resolve_quantization_backend(self.get_base_layer())
        self.in_features, self.out_features = self._features()
        self._is_tied = is_tied
        self._shared: tuple[torch.Tensor, ...] = ()  # in a tuple, or the module would count it as its own parameter
        self._weight_before_merge: torch.Tensor | None = None
        self._core_in_use: tuple[list[tuple[torch.Tensor, int]], LayerCore] | None = None

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the stored weight: (out, in), for GPT-2's Conv1D and embeddings (in, out)."""
        shape = (self.out_features, self.in_features)
        return shape[::-1] if self.fan_in_fan_out else shape

    @property
    def weight_name(self) -> str:
        """Name of the adapted weight in the bare model."""
        return self._elsewhere.weight_name

    @property
    def masks_of_all(self) -> dict[str, Any]:
        """The masks of all adapters of the model, by name; the tuner fills it."""
        return self._elsewhere.masks

    def holds(self, parameter_name: str | None) -> bool:
        """Whether a further adapter of this target belongs here: None stands for the module as a whole."""
        return parameter_name is None

    def update_layer(
        self, adapter_name: str, core: PackedBits | None, *, config: CoreRegionConfig, key: str = ""
    ) -> None:
        """Add an adapter.

        Args:
            adapter_name: Its name.
            core: The core of this layer's weight, in the shape that the weight is stored in. None where the bits
                arrive later with the adapter's weights; until then everything is protected.
            config: Rank, scaling and start values.
            key: Name of the module, for `rank_pattern` and `alpha_pattern`.
        """
        rank = config.rank_pattern.get(get_pattern_key(config.rank_pattern, key), config.r)
        alpha = config.alpha_pattern.get(get_pattern_key(config.alpha_pattern, key), config.lora_alpha)
        if rank > 0:
            stack = self.weight_shape[:-2]
            self.core_region_A[adapter_name] = nn.Parameter(self._drawn(*stack, rank, self.in_features))
            self.core_region_B[adapter_name] = nn.Parameter(self._drawn(*stack, self.out_features, rank))
        else:
            self.core_region_delta[adapter_name] = nn.Parameter(torch.empty(self.weight_shape))
        self.core_region_mask[adapter_name] = self._buffer(core)
        dropout = nn.Dropout(config.lora_dropout) if config.lora_dropout > 0 else nn.Identity()
        self.core_region_dropout[adapter_name] = dropout
        self.r[adapter_name] = rank
        self.lora_alpha[adapter_name] = alpha
        self._initial_scaling[adapter_name] = _scaling(rank, alpha, use_rslora=config.use_rslora)
        self.scaling[adapter_name] = self._initial_scaling[adapter_name]
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

    def set_scale(self, adapter: str, scale: float) -> None:
        """Scale an adapter by its initial scaling times a factor, as in LoRA."""
        if adapter in self.scaling:
            self.scaling[adapter] = scale * self._initial_scaling[adapter]

    def scale_layer(self, scale: float) -> None:
        """Multiply the scaling of the active adapters."""
        for name in self._here(self.active_adapters):
            self.scaling[name] *= scale

    def unscale_layer(self, scale: float | None = None) -> None:
        """Divide the scaling of the active adapters, or put the initial one back."""
        for name in self._here(self.active_adapters):
            self.scaling[name] = self._initial_scaling[name] if scale is None else self.scaling[name] / scale

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
        return self._core([adapter_name]).mask()

    def get_delta_weight(self, adapter: str) -> torch.Tensor:
        """What an adapter alone adds to the stored weight, 0 in its core; float32 or wider."""
        wide = torch.promote_types(self._merge_dtype(), torch.float32)
        return self._core([adapter]).clear(self._change([adapter], wide).on(None))

    def delete_adapter(self, adapter_name: str) -> None:
        """As in PEFT; the mask goes, too, also from what other layers know of it."""
        super().delete_adapter(adapter_name)
        self._elsewhere.forget(adapter_name)

    def extra_repr(self) -> str:
        """Sizes, which not every base layer prints."""
        return f"in_features={self.in_features}, out_features={self.out_features}"

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:  # noqa: ARG002 PEFT's signature
        """False: a LoRA of low rank near the change would also change the core. `to_lora` is exact where it exists."""
        return False

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The base layer's output with what the active adapters add to it.

        Args:
            x: The base layer's input.
            *args: Further arguments of the base layer.
            **kwargs: The same; `adapter_names` names one adapter for each row of the batch, `__base__` for none.

        Raises:
            InputError: `adapter_names` is of another length than the batch, or adapters are merged.
            ModelChangedError: The adapters are switched off while an edit that merged them is open.
        """
        adapter_names = kwargs.pop("adapter_names", None)
        self._check_mixed_batch(x, adapter_names)
        if self.disable_adapters:
            if self.merged:
                self._require_no_edit()
                self.unmerge()
            self._merging = []
        if not self.disable_adapters and adapter_names is not None:
            return self._mixed(x, adapter_names, *args, **kwargs)
        names = self._here(self.active_adapters)
        if self.disable_adapters or self.merged or not names:
            base: torch.Tensor = self.base_layer(x, *args, **kwargs)
            return base
        return self._adapted(x, names, self._core(self.active_adapters), *args, **kwargs)

    def _adapted(self, x: torch.Tensor, names: list[str], core: LayerCore, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The output with these adapters, which keep off the core."""
        result = self.base_layer(x, *args, **kwargs)
        return self._sum(result, self._added(x, names, core))

    def _added(self, x: torch.Tensor, names: list[str], core: LayerCore) -> torch.Tensor:
        """What these adapters add to the base layer's output."""
        raise NotImplementedError

    def _mixed(self, x: torch.Tensor, adapter_names: list[str], *args: Any, **kwargs: Any) -> torch.Tensor:
        """Every row of the batch with its own adapter, and so around its own core."""
        result: torch.Tensor = self.base_layer(x, *args, **kwargs).clone()
        for name in self._here(dict.fromkeys(adapter_names)):
            rows = [row for row, chosen in enumerate(adapter_names) if chosen == name]
            result[rows] = self._sum(result[rows], self._added(x[rows], [name], self._core([name])))
        return result

    def _sum(self, result: torch.Tensor, added: torch.Tensor) -> torch.Tensor:
        if self.quantization_backend is not None:
            result = self.quantization_backend.maybe_clone_base_result(result)
        return (result + added).to(result.dtype)

    def _check_mixed_batch(self, x: torch.Tensor, adapter_names: list[str] | None) -> None:
        if adapter_names is None:
            return
        if len(x) != len(adapter_names):
            raise InputError(
                "Length of `adapter_names` should be the same as the number of inputs, but got "
                f"{len(adapter_names)} and {len(x)} respectively."
            )
        if self.merged:
            raise InputError(
                "Cannot pass `adapter_names` when there are merged adapters, please call `unmerge_adapter` first."
            )

    def _require_no_edit(self) -> None:
        if self.edit_open:
            raise ModelChangedError(
                "Adapters cannot be switched off while an edit is open: the edit acts on the base weights with the "
                "adapters merged into them, and unmerging would undo it. Close the edit first, or open the edit "
                "inside disable_adapter() to edit the bare weights."
            )

    def _drawn(self, *shape: int) -> torch.Tensor:
        """Numbers that are overwritten at once: LoRA draws its start values twice, so the same seed starts the same."""
        return nn.init.kaiming_uniform_(torch.empty(shape), a=math.sqrt(5))

    def _features(self) -> tuple[int, int]:
        """Width of input and output."""
        raise NotImplementedError

    def _here(self, names: Iterable[str]) -> list[str]:
        """Those of the adapters that target this layer."""
        return [name for name in names if name in self.core_region_mask]

    def _core(self, names: Iterable[str]) -> LayerCore:
        """Union of the adapters' cores; the last one that was asked for is kept.

        An adapter that does not target this layer protects here, too, what its mask says of the weight.
        """
        here = self.core_region_mask
        found = [here[name] if name in here else self._elsewhere.bits(name) for name in names]
        masks = [mask for mask in found if mask is not None]
        if is_traced():
            return LayerCore(reduce(torch.bitwise_or, masks), self.weight_shape)
        known = self._core_in_use
        if known is None or not _same(known[0], masks):
            device = masks[0].device
            union = LayerCore(reduce(torch.bitwise_or, [mask.to(device) for mask in masks]), self.weight_shape)
            self._core_in_use = known = ([(mask, _version(mask)) for mask in masks], union)
        return known[1]

    def _change(self, names: list[str], dtype: torch.dtype) -> Change:
        """What adapters together would add to the stored weight if there were no core."""
        low_rank = [name for name in names if name in self.core_region_A]
        full = [
            self.scaling[name] * self.core_region_delta[name].to(dtype)
            for name in names
            if name in self.core_region_delta
        ]
        dense = None if not full else sum(full[1:], start=full[0])
        if not low_rank:
            return Change(None, None, dense)
        a = [self.core_region_A[name].to(dtype) for name in low_rank]
        b = [self.scaling[name] * self.core_region_B[name].to(dtype) for name in low_rank]
        one = len(low_rank) == 1
        right, left = (a[0], b[0]) if one else (torch.cat(a, dim=-2), torch.cat(b, dim=-1))
        return Change(right.mT, left.mT, dense) if self.fan_in_fan_out else Change(left, right, dense)

    def bits_to_meta(self, adapter_name: str) -> None:
        """Forget an adapter's bits, because a state dict is about to bring them."""
        if adapter_name in self.core_region_mask:
            self.core_region_mask[adapter_name] = self.core_region_mask[adapter_name].to("meta")

    def _buffer(self, core: PackedBits | None) -> torch.Tensor:
        """The packed bits as a tensor; all ones where they are not known."""
        if core is None:
            core = PackedBits.from_bool(torch.ones(self.weight_shape, dtype=torch.bool))
        if core.shape != self.weight_shape:
            raise InputError(f"The core must have the weight's shape {self.weight_shape}, got {core.shape}.")
        return torch.from_numpy(core.data.copy())

    def _get_base_layer_device_and_dtype(self, base_layer: nn.Module) -> tuple[torch.device, torch.dtype]:
        """As in PEFT, but of the parameter that is adapted."""
        device, dtype = super()._get_base_layer_device_and_dtype(base_layer)
        if device is None or self.parameter_name != "weight":
            device, dtype = self.adapted.device, self.adapted.dtype
        return device, dtype

    def _move_adapter_to_device_of_base_layer(self, adapter_name: str, device: torch.device | None = None) -> None:
        """As in PEFT, but the mask's bits never go to the meta device, where they would be lost."""
        if adapter_name not in self.core_region_mask:
            return
        bits = self.core_region_mask[adapter_name]
        super()._move_adapter_to_device_of_base_layer(adapter_name, device)
        if self.core_region_mask[adapter_name].is_meta:
            self.core_region_mask[adapter_name] = bits

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles find the core's entries again themselves."""
        return {**self.__dict__, "_core_in_use": None}


def _scaling(rank: int, alpha: float, *, use_rslora: bool) -> float:
    if rank == 0:
        return 1.0
    return alpha / (math.sqrt(rank) if use_rslora else rank)


def _same(known: list[tuple[torch.Tensor, int]], masks: list[torch.Tensor]) -> bool:
    """Whether these are the very tensors, unchanged since; their bits may have been loaded into them meanwhile."""
    return len(known) == len(masks) and all(
        one is other and version == _version(other) for (one, version), other in zip(known, masks, strict=True)
    )


def _version(mask: torch.Tensor) -> int:
    return -1 if mask.is_inference() else mask._version  # noqa: SLF001 torch's own counter of changes in place


def is_traced() -> bool:
    """Whether somebody records operations instead of running them; only plain ones can be recorded."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]


def tuner_layers(model: nn.Module) -> Iterator[CoreRegionLayer]:
    """All layers of a model that have adapters of this method."""
    return (module for module in model.modules() if isinstance(module, CoreRegionLayer))
