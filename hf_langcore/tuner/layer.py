"""What all layers with CORE_REGION adapters have in common: their numbers, their cores, merging and unmerging."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from peft.tuners._buffer_dict import BufferDict
from peft.tuners.tuners_utils import BaseTunerLayer, check_adapters_to_merge
from peft.utils import resolve_quantization_backend
from peft.utils.other import get_pattern_key
from torch import nn
from torch.nn.utils import parametrize

from hf_langcore.errors import InputError, ModelChangedError, NonFiniteError, UnsupportedModelError
from hf_langcore.masks import CoreMask, PackedBits
from hf_langcore.tuner.config import CoreRegionConfig
from hf_langcore.tuner.cores import LayerCore
from hf_langcore.tuner.masked_linear import Change

_SMALL_BATCH = 2**12  # numbers

BASE = "__base__"
"""PEFT's name, in mixed batches, for no adapter."""


class BrokenAdapterError(NonFiniteError, ValueError):
    """Merging would make weights NaN or infinite; a ValueError too, which is what PEFT's own methods raise."""


class QuantizedMergeError(UnsupportedModelError, ValueError):
    """Quantised weights cannot take a change exactly; a ValueError too, which is what PEFT's own methods raise."""


class CoreRegionLayer(BaseTunerLayer):  # type: ignore[misc]  # PEFT ships no types
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
    def adapted(self) -> torch.Tensor:
        """The parameter that the adapters change."""
        parameter: torch.Tensor = getattr(self.get_base_layer(), self.parameter_name)
        return parameter

    @property
    def stored(self) -> torch.Tensor:
        """The base value of the parameter, also while adapters are merged into it."""
        return self.adapted if self._weight_before_merge is None else self._weight_before_merge

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

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:  # noqa: FBT001, FBT002 PEFT's
        """Write the effective weight into the base layer; the core keeps every bit.

        Args:
            safe_merge: Check first that no weight becomes NaN or infinite.
            adapter_names: The adapters; None for the active ones.

        Raises:
            BrokenAdapterError: With `safe_merge`, some would; nothing has been changed then.
            QuantizedMergeError: The base weights are quantised.
        """
        requested = check_adapters_to_merge(self, adapter_names)
        self._merging = [*self._merging, *requested]
        names = self._here(requested)
        if not names:
            return
        self._require_ordinary_weights()
        weight = self.adapted.data
        before = weight if self._weight_before_merge is None else self._weight_before_merge.to(weight.device)
        merged = self._effective_weight(before, self._merging)
        if safe_merge and bool((before.isfinite() & ~merged.isfinite()).any()):
            raise BrokenAdapterError(
                f"NaNs detected in the merged weights. The adapter {', '.join(names)} seems to be broken: it makes "
                f"finite weights NaN or infinite in {weight.dtype}. Nothing was merged."
            )
        self._write_merged(merged)
        self.merged_adapters = [*self.merged_adapters, *names]

    def unmerge(self) -> None:
        """Put the base layer's weight back, bit for bit."""
        self._merging = []
        if self._weight_before_merge is None:
            warnings.warn("Already unmerged. Nothing to do.", stacklevel=2)
            return
        if self._shared:
            shared = self._shared[0]
            # Whoever moved or cast the merged model could not reach it.
            shared.data = shared.data.to(self.adapted.device, self.adapted.dtype)
            setattr(self.get_base_layer(), self.parameter_name, shared)
        else:
            self.adapted.data.copy_(self._weight_before_merge)
        self._shared = ()
        self._weight_before_merge = None
        self.merged_adapters = []

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
        if self.disable_adapters and self.merged:
            self._require_no_edit()
            self.unmerge()
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
            core = self._core([name])
            # Kernels sum in an order that depends on the batch. A small one is computed whole, so that each row comes out
            # as it would in a batch of its own kind, to the last bit.
            small = x.numel() < _SMALL_BATCH
            added = self._added(x, [name], core)[rows] if small else self._added(x[rows], [name], core)
            result[rows] = self._sum(result[rows], added)
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

    def _require_ordinary_weights(self) -> None:
        if parametrize.is_parametrized(self.get_base_layer(), self.parameter_name):
            raise UnsupportedModelError(
                f"{self.parameter_name!r} is computed by a parametrisation, so there is no stored value to merge into. "
                "Remove the parametrisation first (torch.nn.utils.parametrize.remove_parametrizations)."
            )
        self.require_unquantized()

    def require_unquantized(self) -> None:
        """Refuse to merge into quantised weights.

        Raises:
            QuantizedMergeError: They are.
        """
        if self.quantization_backend is not None:
            raise QuantizedMergeError(
                f"Cannot merge into {self.quantization_backend.backend_name} weights: quantising the sum again would "
                "change core weights too. Keep the adapter unmerged, or call merge_and_dequantize(), which merges into "
                "ordinary weights; they need the memory that quantisation saved."
            )

    def _write_merged(self, merged: torch.Tensor) -> None:
        weight = self.adapted.data
        if self._is_tied:
            # The other user of the tensor keeps the old values: the adapters belong to this layer only.
            if self._weight_before_merge is None:
                self._shared, self._weight_before_merge = (self.adapted,), weight
            setattr(self.get_base_layer(), self.parameter_name, nn.Parameter(merged, requires_grad=False))
            return
        if self._weight_before_merge is None:
            # Subtracting the change again would not give back every bit. The copy waits on the CPU.
            self._weight_before_merge = weight.to("cpu", copy=True)
        weight.copy_(merged)

    def _drawn(self, *shape: int) -> torch.Tensor:
        """Numbers that are overwritten at once: LoRA draws its start values twice, so the same seed starts the same."""
        return nn.init.kaiming_uniform_(torch.empty(shape), a=math.sqrt(5))

    def _features(self) -> tuple[int, int]:
        """Width of input and output."""
        raise NotImplementedError

    def _merge_dtype(self) -> torch.dtype:
        dtype = self.adapted.dtype
        return dtype if dtype.is_floating_point else torch.float32

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

    def _effective_weight(self, weight: torch.Tensor, names: Sequence[str]) -> torch.Tensor:
        """`where(core, W, W + change)`; adding a change of 0 would already turn -0.0 into 0.0."""
        wide = torch.promote_types(weight.dtype, torch.float32)
        with torch.no_grad():
            change = self._change(self._here(names), wide).to(weight.device)
            changed = change.on(weight.to(wide)).to(weight.dtype)
            return self._core(names).to(weight.device).keep(changed, weight)

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
        bits = self.core_region_mask[adapter_name]
        super()._move_adapter_to_device_of_base_layer(adapter_name, device)
        if self.core_region_mask[adapter_name].is_meta:
            self.core_region_mask[adapter_name] = bits

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles find the core's entries again themselves."""
        return {**self.__dict__, "_core_in_use": None}


class Elsewhere:
    """What adapters say of a weight whose layer they do not target: the bits of their masks.

    Attributes:
        masks: The tuner's masks by name of adapter.
        weight_name: Name of the weight in the bare model.
    """

    def __init__(self, masks: Mapping[str, Any], weight_name: str) -> None:
        self.masks = masks
        self.weight_name = weight_name
        self._known: dict[str, tuple[CoreMask, torch.Tensor]] = {}

    def bits(self, name: str) -> torch.Tensor | None:
        """The packed bits on the CPU, the same tensor each time; None where the mask does not cover the weight."""
        core_mask = self.masks.get(name)
        if not isinstance(core_mask, CoreMask) or self.weight_name not in core_mask:
            return None
        known = self._known.get(name)
        if known is None or known[0] is not core_mask:
            bits = torch.from_numpy(core_mask.packed(self.weight_name).data.copy())
            self._known[name] = known = (core_mask, bits)
        return known[1]


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
