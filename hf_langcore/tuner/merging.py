"""Merging adapters into a layer's weight and taking them out again, bit for bit, around the core."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from peft.tuners.tuners_utils import check_adapters_to_merge
from torch import nn
from torch.nn.utils import parametrize

from hf_langcore.errors import NonFiniteError, UnsupportedModelError
from hf_langcore.tuner.cores import LayerCore
from hf_langcore.tuner.masked_linear import Change


class BrokenAdapterError(NonFiniteError, ValueError):
    """Merging would make weights NaN or infinite; a ValueError too, which is what PEFT's own methods raise."""


class QuantizedMergeError(UnsupportedModelError, ValueError):
    """Quantised weights cannot take a change exactly; a ValueError too, which is what PEFT's own methods raise."""


class MergingLayer:
    """The merging half of `CoreRegionLayer`, which says what the adapters are and what their core is."""

    parameter_name: str
    merged: bool
    merged_adapters: list[str]
    quantization_backend: Any
    get_base_layer: Callable[[], Any]
    _here: Callable[[Iterable[str]], list[str]]
    _core: Callable[[Iterable[str]], LayerCore]
    _change: Callable[[list[str], torch.dtype], Change]

    _is_tied: bool
    _merging: list[str]
    _shared: tuple[torch.Tensor, ...]
    _weight_before_merge: torch.Tensor | None

    @property
    def adapted(self) -> torch.Tensor:
        """The parameter that the adapters change."""
        parameter: torch.Tensor = getattr(self.get_base_layer(), self.parameter_name)
        return parameter

    @property
    def stored(self) -> torch.Tensor:
        """The base value of the parameter, also while adapters are merged into it."""
        return self.adapted if self._weight_before_merge is None else self._weight_before_merge

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
        together = list(dict.fromkeys([*self._merging, *requested]))
        names = self._here(requested)
        if not names and not self.merged:
            self._merging = together
            return
        self._require_ordinary_weights()
        weight = self.adapted.data
        before = weight if self._weight_before_merge is None else self._weight_before_merge.to(weight.device)
        merged = self._effective_weight(before, together)
        if safe_merge and bool((before.isfinite() & ~merged.isfinite()).any()):
            raise BrokenAdapterError(
                f"NaNs detected in the merged weights. The adapter {', '.join(names)} seems to be broken: it makes "
                f"finite weights NaN or infinite in {weight.dtype}. Nothing was merged."
            )
        self._write_merged(merged)
        self._merging = together
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

    def _require_ordinary_weights(self) -> None:
        if parametrize.is_parametrized(self.get_base_layer(), self.parameter_name):
            raise UnsupportedModelError(
                f"{self.parameter_name!r} is computed by a parametrisation, so there is no stored value to merge into. "
                "Remove the parametrisation first (torch.nn.utils.parametrize.remove_parametrizations)."
            )
        self.require_unquantized()

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

    def _effective_weight(self, weight: torch.Tensor, names: Sequence[str]) -> torch.Tensor:
        """`where(core, W, W + change)`; adding a change of 0 would already turn -0.0 into 0.0."""
        wide = torch.promote_types(weight.dtype, torch.float32)
        with torch.no_grad():
            change = self._change(self._here(names), wide).to(weight.device)
            changed = change.on(weight.to(wide)).to(weight.dtype)
            return self._core(names).to(weight.device).keep(changed, weight)

    def _merge_dtype(self) -> torch.dtype:
        dtype = self.adapted.dtype
        return dtype if dtype.is_floating_point else torch.float32
