"""The merged weights of a model, one at a time: what `merge_and_unload` would leave, without merging anything."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import AuxiliaryTrainingWrapper, ModulesToSaveWrapper, TrainableTokensWrapper
from torch import nn

from hf_langcore.errors import ConfigurationError, ModelChangedError, UnsupportedModelError
from hf_langcore.tuner.export.parts import require_own
from hf_langcore.tuner.layer import CoreRegionLayer


class Change(Protocol):
    """What adapters make of a stored tensor."""

    @property
    def identity(self) -> Hashable:
        """Equal for changes that make the same of the same tensor."""

    def __call__(self, stored: torch.Tensor) -> torch.Tensor:
        """A fresh tensor of the same shape and dtype."""


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One tensor of the merged model.

    Attributes:
        stored: The tensor as it is in the model now.
        change: What the adapters make of it; None where nothing changes it.
    """

    stored: torch.Tensor
    change: Change | None = None

    @property
    def identity(self) -> Hashable:
        """Equal for entries that are one tensor under several names."""
        return id(self.stored), None if self.change is None else self.change.identity

    def value(self) -> torch.Tensor:
        """The merged values; a fresh tensor if adapters change them, else the stored one."""
        with torch.no_grad():
            return self.stored.detach() if self.change is None else self.change(self.stored.detach())


def merged_state(model: nn.Module, names: Sequence[str]) -> dict[str, Entry]:
    """All tensors of the bare model's state dict, with these adapters merged.

    Args:
        model: The model inside a tuner.
        names: The adapters.

    Raises:
        ConfigurationError: Other adapters are merged, or several adapters trained the same module in full.
        ModelChangedError: An edit is open.
        UnsupportedModelError: There are layers of another PEFT method.
    """
    return dict(_walk(model, "", names))


def _walk(module: nn.Module, prefix: str, names: Sequence[str]) -> Iterator[tuple[str, Entry]]:
    if isinstance(module, CoreRegionLayer):
        yield from _changed(module.base_layer, prefix, names, module.parameter_name, _adapted(prefix, module, names))
    elif isinstance(module, TrainableTokensWrapper):
        layer = module.token_adapter
        yield from _changed(layer.base_layer, prefix, names, "weight", _tokens(prefix, layer, names))
    elif isinstance(module, ModulesToSaveWrapper):
        yield from _walk(_copy_of(prefix, module, names), prefix, names)
    elif isinstance(module, (BaseTunerLayer, AuxiliaryTrainingWrapper)):
        require_own(prefix.rstrip("."), module)
        raise UnsupportedModelError(
            f"{prefix.rstrip('.')!r} is a {type(module).__name__}, which cannot be merged here."
        )
    else:
        own: dict[str, Any] = {}
        module._save_to_state_dict(own, prefix, keep_vars=True)  # noqa: SLF001 this level of `state_dict()`
        yield from ((key, Entry(value)) for key, value in own.items() if isinstance(value, torch.Tensor))
        for name, child in module._modules.items():  # noqa: SLF001 named_children would drop second names
            if child is not None:
                yield from _walk(child, f"{prefix}{name}.", names)


def _changed(
    inner: nn.Module, prefix: str, names: Sequence[str], parameter: str, change: Change | None
) -> Iterator[tuple[str, Entry]]:
    for key, entry in _walk(inner, prefix, names):
        yield key, replace(entry, change=change) if key == f"{prefix}{parameter}" and change is not None else entry


@dataclass(frozen=True, slots=True, eq=False)
class _Adapted:
    """The change by CORE_REGION adapters; it is the layer's own, so nobody else's tensor is tied to the result."""

    layer: CoreRegionLayer
    names: list[str]

    @property
    def identity(self) -> Hashable:
        return id(self.layer)

    def __call__(self, stored: torch.Tensor) -> torch.Tensor:
        layer: Any = self.layer
        known = layer._core_in_use  # noqa: SLF001
        try:
            merged: torch.Tensor = layer._effective_weight(stored, self.names)  # noqa: SLF001
        finally:
            layer._core_in_use = known  # noqa: SLF001 or each layer would go on holding the core's entries
        return merged


@dataclass(frozen=True, slots=True, eq=False)
class _Tokens:
    """The change by trainable tokens; tied modules share the adapter's tensors and stay tied."""

    layer: Any
    names: list[str]

    @property
    def identity(self) -> Hashable:
        return id(self.layer.trainable_tokens_delta), tuple(self.names)

    def __call__(self, stored: torch.Tensor) -> torch.Tensor:
        for name in self.names:
            rows = torch.tensor(self.layer.token_indices[name], device=stored.device)
            stored = stored.index_copy(0, rows, self.layer.trainable_tokens_delta[name].to(stored))
        return stored


def _adapted(prefix: str, layer: CoreRegionLayer, names: Sequence[str]) -> Change | None:
    if layer.edit_open:
        raise ModelChangedError(
            "The model cannot be saved while an edit is open: what is edited would be saved as if it were trained. Close "
            "the edit first."
        )
    here = [name for name in names if name in layer.core_region_mask]
    # The others matter, too: merged together, all keep off what one of them protects.
    return _Adapted(layer, list(names)) if _is_to_merge(prefix, layer, here) else None


def _tokens(prefix: str, layer: Any, names: Sequence[str]) -> Change | None:
    here = [name for name in names if name in layer.trainable_tokens_delta]
    if not _is_to_merge(prefix, layer, here):
        return None
    layer._check_overlapping_tokens(here)  # noqa: SLF001 PEFT's message
    return _Tokens(layer, here)


def _is_to_merge(prefix: str, layer: Any, here: list[str]) -> bool:
    """Whether these adapters still have to be merged; not if exactly they are merged already.

    Raises:
        ConfigurationError: Other adapters are.
    """
    merged = set(layer.merged_adapters)
    if merged and merged != set(here):
        raise ConfigurationError(
            f"Adapters {sorted(merged)} are merged into {prefix.rstrip('.')!r}, but {sorted(here)} are to be saved. Call "
            "unmerge_adapter() first, or name the merged ones: adapter_names=[...]."
        )
    return bool(here) and not merged


def _copy_of(prefix: str, wrapper: Any, names: Sequence[str]) -> nn.Module:
    """What stands in the place of a module that adapters may have trained in full."""
    here = [name for name in names if name in wrapper.modules_to_save]
    if len(here) > 1:
        raise ConfigurationError(
            f"Adapters {here} each trained {prefix.rstrip('.')!r} in full (modules_to_save), so they cannot be merged "
            "together. Name one of them: adapter_names=[...]."
        )
    module: nn.Module = wrapper.modules_to_save[here[0]] if here else wrapper.original_module
    return module
