"""Models with quantised bases: merging is refused, or done into ordinary weights where somebody asks for that."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from accelerate.hooks import add_hook_to_module, remove_hook_from_module
from torch import nn
from transformers.pytorch_utils import Conv1D

from hf_langcore.architecture import bare_weights
from hf_langcore.errors import InputError
from hf_langcore.tuner.dequantizing import dequantized, is_quantized_linear, require_dequantizable, was_conv1d
from hf_langcore.tuner.layer import CoreRegionLayer, tuner_layers

_SMALLEST_ITEM = 2  # bytes; smaller floats are quantised forms themselves


class QuantizedBases:
    """`merge_and_dequantize` for the tuner, and the refusal of every other way of merging."""

    model: nn.Module
    active_adapters: list[str]
    peft_config: dict[str, Any]
    merge_and_unload: Callable[..., nn.Module]

    def merge_and_dequantize(
        self, *, dtype: torch.dtype | None = None, adapter_names: Sequence[str] | None = None
    ) -> nn.Module:
        """Turn all quantised layers into ordinary ones, merge the adapters into them and take the adapters off.

        A merged weight is `where(core, W, W + change)` of the dequantised W, computed in float32 and rounded once: core
        weights have the bits of the dequantised base. The model needs the memory then that quantisation had saved.

        Args:
            dtype: Floating-point type of the whole result, but for the weights that the model always keeps in float32.
                None takes that of the weights that were not quantised and leaves these alone: the type in which the model
                was loaded, or float32 after `prepare_model_for_kbit_training`.
            adapter_names: The adapters to be merged; None for the active ones.

        Returns:
            The ordinary model. As with `merge_and_unload`, this object must not be used any more.

        Raises:
            InputError: The base is not quantised, or there is no such adapter.
            UnsupportedModelError: Some layers cannot be dequantised; nothing has been changed then.
        """
        names = self._to_be_merged(adapter_names)
        places = list(_quantized_places(self.model))
        if not places:
            raise InputError("The base model is not quantised. Call merge_and_unload().")
        for place in places:
            require_dequantizable(place[1], _bare(place[2]))
        of_others = _dtype_of_others(self.model)
        wanted = of_others if dtype is None else _checked(dtype)
        for parent, name, layer in places:
            setattr(parent, name.rpartition(".")[2], _ordinary(name, layer, names, wanted))
        merged = self.merge_and_unload(adapter_names=names)
        _forget_quantization(merged)
        if dtype is not None:
            _cast(merged, dtype)
        return merged

    def _check_merge_allowed(self) -> None:
        """Refuse before the first layer is merged; called by PEFT."""
        super()._check_merge_allowed()  # type: ignore[misc]  # PEFT's tuner
        for layer in tuner_layers(self.model):
            layer.require_unquantized()

    def _to_be_merged(self, adapter_names: Sequence[str] | None) -> list[str]:
        names = list(self.active_adapters if adapter_names is None else adapter_names)
        unknown = [name for name in names if name not in self.peft_config]
        if unknown or isinstance(adapter_names, str):
            raise InputError(
                f"adapter_names takes a list of adapters, got {adapter_names!r}; the model has {sorted(self.peft_config)}."
            )
        return names


def _quantized_places(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Every quantised linear layer, or the tuner layer around it: (module that holds it, full name, layer)."""
    for key, parent in model.named_modules():
        if not isinstance(parent, CoreRegionLayer):
            for name, child in parent.named_children():
                if is_quantized_linear(_bare(child)):
                    yield parent, f"{key}.{name}".lstrip("."), child


def _bare(layer: nn.Module) -> nn.Module:
    bare: nn.Module = layer.get_base_layer() if isinstance(layer, CoreRegionLayer) else layer
    return bare


def _dtype_of_others(model: nn.Module) -> torch.dtype:
    """Type of the weights that are not quantised; embeddings come first."""
    dtypes = (weight.parameter.dtype for weight in bare_weights(model).values() if not weight.is_quantized)
    return next(dtypes, torch.float32)


def _checked(dtype: Any) -> torch.dtype:
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point or dtype.itemsize < _SMALLEST_ITEM:
        raise InputError(f"dtype must be a floating-point type of torch, such as torch.bfloat16, got {dtype!r}.")
    return dtype


def _ordinary(name: str, layer: nn.Module, names: list[str], dtype: torch.dtype) -> nn.Module:
    """An nn.Linear, or the Conv1D that the layer once was, with the merged weight."""
    base: Any = _bare(layer)
    weight = dequantized(name, base)
    wide = torch.promote_types(torch.promote_types(weight.dtype, dtype), torch.float32)
    here = layer._here(names) if isinstance(layer, CoreRegionLayer) else []  # noqa: SLF001 its own
    if isinstance(layer, CoreRegionLayer) and here:
        weight = layer._effective_weight(weight.to(wide), names)  # noqa: SLF001
    sizes = (base.in_features, base.out_features)
    with torch.device("meta"):
        ordinary: Any = Conv1D(*sizes[::-1]) if was_conv1d(base) else nn.Linear(*sizes, bias=base.bias is not None)
    ordinary.weight = nn.Parameter(weight.to(dtype).contiguous(), requires_grad=False)
    if base.bias is not None:
        ordinary.bias = nn.Parameter(base.bias.detach().to(dtype), requires_grad=False)
    return _hooked_as(base, ordinary.train(base.training))


def _hooked_as(old: Any, new: nn.Module) -> nn.Module:
    """Let accelerate move the new layer's inputs as it moved the old one's, where a model is spread over devices."""
    hook = getattr(old, "_hf_hook", None)
    if hook is not None:
        remove_hook_from_module(old)
        add_hook_to_module(new, hook)
    return new


def _forget_quantization(model: Any) -> None:
    """Take the marks off by which transformers and its trainer know a quantised model."""
    if getattr(model, "hf_quantizer", None) is not None:
        model.hf_quantizer.remove_quantization_config(model)
    for module in model.modules():
        config: Any = getattr(module, "config", None)
        if getattr(config, "_is_quantized", False):
            config._is_quantized = False  # noqa: SLF001
    for mark in ("is_loaded_in_4bit", "is_loaded_in_8bit"):
        if mark in vars(model):
            delattr(model, mark)


def _cast(model: Any, dtype: torch.dtype) -> None:
    """Parameters as `from_pretrained(dtype=...)` gives them: some models keep a few in float32; buffers stay."""
    plan: Iterable[str] = getattr(model, "_get_dtype_plan", lambda _: {})(dtype)
    for name, parameter in model.named_parameters():
        kept = any(re.search(rf"(^|\.){pattern}(\.|$)", name) for pattern in plan)
        if parameter.is_floating_point() and not kept:
            parameter.data = parameter.data.to(dtype)
    if hasattr(getattr(model, "config", None), "dtype"):
        model.config.dtype = dtype
