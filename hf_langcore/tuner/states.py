"""What goes into an adapter's files and comes out of them: the hooks that PEFT calls around state dicts."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from hf_langcore.errors import CoreMaskMismatchError
from hf_langcore.masks import CoreMask, PackedBits, bits_of
from hf_langcore.tuner.config import CoreRegionConfig
from hf_langcore.tuner.layer import CoreRegionLayer


class AdapterStates:
    """State dicts of the tuner, as in PEFT but for cores and for base weights that travel along."""

    prefix: str
    _masks: dict[str, Any] | None

    @classmethod
    def _get_adapter_state_dict(
        cls,
        model: nn.Module,
        config: CoreRegionConfig,
        adapter_name: str,
        state_dict: dict[str, Any],
        unwanted_adapter_names: list[str],
    ) -> dict[str, Any]:
        """As in PEFT; embeddings that it saves with an adapter are those of the base, also while it is merged.

        PEFT saves the config afterwards, so it must hold the mask of this model by then.
        """
        tuner = model if isinstance(model, cls) else getattr(model, "base_model", None)
        if isinstance(tuner, cls) and tuner._masks and tuner._masks.get(adapter_name) is not None:  # noqa: SLF001
            config.core_mask = tuner._masks[adapter_name]  # noqa: SLF001
        for key, module in model.named_modules():
            name = f"{key}.base_layer.weight"
            if isinstance(module, CoreRegionLayer) and module.merged and name in state_dict:
                state_dict[name] = module.stored
        kept: dict[str, Any] = super()._get_adapter_state_dict(  # type: ignore[misc]
            model, config, adapter_name, state_dict, unwanted_adapter_names
        )
        return kept

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: nn.Module, config: CoreRegionConfig, adapter_name: str, state_dict: dict[str, Any]
    ) -> dict[str, Any]:
        """As in PEFT; refuses weights that were trained around another core than the config's.

        A computed core is the exception: it depends on the weights, so the one of the state dict takes its place.
        """
        remapped: dict[str, Any] = super()._remap_adapter_state_dict_for_load(  # type: ignore[misc]
            model, config, adapter_name, state_dict
        )
        _leave_out_what_is_there(model, remapped)
        if isinstance(config.core_mask, CoreMask):
            present = dict(model.named_buffers())
            masks = {key: bits for key, bits in remapped.items() if f".{cls.prefix}mask." in key and key in present}
            other = [key for key, bits in masks.items() if not _same_bits(present[key], bits)]
            if other and config.method is None:
                raise CoreMaskMismatchError(
                    f"The adapter's weights were trained around another core than the one that its config names: "
                    f"{other[0]!r} differs. Load them with the config that they were saved with."
                )
            if other:
                cls._adopt(model, config, adapter_name, {key: masks[key] for key in other})
        return remapped

    @classmethod
    def _adopt(cls, model: nn.Module, config: CoreRegionConfig, adapter_name: str, masks: dict[str, Any]) -> None:
        """Note the core that a state dict brings instead of the computed one."""
        warnings.warn(
            "The state dict brings another core than the one that was computed from this model's weights: it was trained on "
            "other weights. Its own core is used.",
            stacklevel=2,
        )
        known = config.core_mask
        assert isinstance(known, CoreMask)  # noqa: S101 the caller's condition
        layers: dict[str, Any] = {key: model.get_submodule(key.partition(f".{cls.prefix}mask.")[0]) for key in masks}
        planes = {name: known.packed(name) for name in known} | {
            layer.weight_name: PackedBits(masks[key].cpu().numpy(), layer.weight_shape)
            for key, layer in layers.items()
        }
        config.core_mask = CoreMask(planes, provenance=replace(known.provenance, base_fingerprint=None))
        for layer in layers.values():
            layer.masks_of_all[adapter_name] = config.core_mask


def _leave_out_what_is_there(model: nn.Module, state_dict: dict[str, Any]) -> None:
    """PEFT saves targeted embeddings with an adapter. Loading those that the base has anyway could untie it."""
    present = dict(model.named_parameters(remove_duplicate=False))  # the second name of a tied weight, too
    for key in [key for key in state_dict if key.endswith("base_layer.weight") and key in present]:
        one, other = present[key], state_dict[key]
        same_form = one.shape == other.shape and one.dtype == other.dtype and not one.is_meta
        if same_form and torch.equal(bits_of(one), bits_of(other.to(one.device))):
            del state_dict[key]


def _same_bits(present: Any, bits: Any) -> bool:
    return present.shape == bits.shape and (present.is_meta or bool((present.cpu() == bits.cpu()).all()))
