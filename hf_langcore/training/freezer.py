"""The freezer: the core's values in a compact form, and the way to write them back.

Four bytes of index and the value itself for each core weight that this process holds. Of a sharded parameter each
process keeps what lies in its own shard; where an optimizer steps a float32 master copy, that copy is kept too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from hf_langcore.architecture import Weight, require_editable
from hf_langcore.errors import ModelChangedError
from hf_langcore.masks import CoreMask, bits_of
from hf_langcore.training.holdings import Holding, holdings, is_sharded, local_part, whole_value

_INT32_LIMIT = 2**31


@dataclass(frozen=True, slots=True)
class _Kept:
    """The core of one holding: where it is, and its bits, as integers so that NaN and -0.0 stay what they are."""

    holding: Holding
    index: torch.Tensor
    bits: torch.Tensor
    dtype: torch.dtype

    @classmethod
    def of(cls, holding: Holding, core: torch.Tensor, whole: torch.Tensor) -> _Kept:
        """What a holding has of the core.

        Args:
            holding: One tensor of this process.
            core: bool, the parameter's full shape.
            whole: The values to be kept, of the same shape.
        """
        live = holding.live()
        # A gathered copy that is not there now comes back with the parameter's dtype and device.
        like = whole if live is None else live
        index = holding.part_of(core).nonzero().reshape(-1).to(whole.device)
        values = holding.part_of(whole)[index].to(like.device, like.dtype)
        if core.numel() < _INT32_LIMIT:
            index = index.to(torch.int32)
        return cls(holding, index.to(like.device), bits_of(values), like.dtype)

    def changed(self) -> int:
        """How many core weights differ from the saved ones in any bit."""
        live = self.holding.live()
        return 0 if live is None else int((bits_of(live)[self.index] != self.bits).sum())

    def restore(self) -> None:
        live = self.holding.live()
        if live is None or not self.index.numel():
            return
        bits_of(live).index_put_((self.index,), self.bits)
        if self.holding.put is not None:
            self.holding.put(live)


class CoreFreezer:
    """Keeps the core of live parameters at saved values, whole or sharded.

    Example:
        >>> weight = nn.Linear(2, 2, bias=False).weight
        >>> core = CoreMask({"w": torch.tensor([[True, False], [False, False]])})
        >>> freezer = CoreFreezer({"w": Weight("w", weight, nn.Module())}, core)
        >>> _ = weight.data.add_(1)
        >>> freezer.changed(), freezer.restore(), freezer.changed()
        ({'w': 1}, None, {})

    Args:
        weights: Parameter name -> weight, as `hf_langcore.binding.bind` returns them. Of sharded parameters the
            constructor gathers one after the other, so that all processes must construct together.
        core_mask: What is kept.
        values: Parameter name -> values of its core weights in storage order; the live ones if None.

    Raises:
        UnsupportedModelError: A parameter is quantised, without values, not contiguous, or held in an unknown form.
        ModelChangedError: `values` do not fit the parameters in number or dtype.
    """

    def __init__(
        self,
        weights: Mapping[str, Weight],
        core_mask: CoreMask,
        *,
        values: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        self._core_mask = core_mask
        self._weights = {name: weight for name, weight in weights.items() if core_mask.count(name)}
        self._kept: dict[str, list[_Kept]] = {}
        for name, weight in weights.items():
            require_editable(weight)
            places = holdings(name, weight.parameter)
            if name not in self._weights:
                continue
            core = core_mask[name].to(weight.parameter.device)
            given = None if values is None else _fitting(weight, values.get(name), core_mask.count(name))
            whole = whole_value(weight.parameter) if given is None else _spread(core, given)
            self._kept[name] = [_Kept.of(place, core, whole) for place in places]

    def restore(self) -> None:
        """Write the saved values back."""
        for kept in self._kept.values():
            for one in kept:
                one.restore()

    def changed(self) -> dict[str, int]:
        """Parameter name -> number of core weights that differ in any bit from the saved ones, where there are any.

        Only what this process holds is counted; float32 masters are counted apart from the weights themselves.
        """
        counts = {name: sum(one.changed() for one in kept) for name, kept in self._kept.items()}
        return {name: count for name, count in counts.items() if count}

    def values(self) -> dict[str, torch.Tensor]:
        """Parameter name -> the saved values of its core weights, in storage order.

        Sharded parameters are gathered as they are now, so that all processes must call, after a restore.
        """
        return {name: self._values(name, weight) for name, weight in self._weights.items()}

    def restore_into(self, model_weights: Mapping[str, Weight]) -> None:
        """Write the saved values into the weights of another model of the same architecture, such as a moving average.

        Args:
            model_weights: Parameter name -> whole weight of the other model.

        Raises:
            ModelChangedError: A weight is missing there, or has another shape.
        """
        for name, values in self.values().items():
            other = model_weights.get(name)
            if other is None or other.shape != self._weights[name].shape:
                raise ModelChangedError(
                    f"The other model has {'no' if other is None else 'another shape of'} {name!r}, so the core has no "
                    "place there. Pass a copy of the model that is trained."
                )
            core = self._core_mask[name].to(other.parameter.device)
            other.parameter.detach()[core] = values.to(other.parameter.device, other.parameter.dtype)

    def nbytes(self) -> int:
        """Bytes that the indices and values take in this process."""
        return sum(one.index.nbytes + one.bits.nbytes for kept in self._kept.values() for one in kept)

    def mask_gradients(self) -> list[torch.utils.hooks.RemovableHandle]:
        """Zero the core's gradients as soon as they are there, before they are clipped.

        Returns:
            Handles that take the hooks away again.
        """
        handles = []
        for name, weight in self._weights.items():
            first = self._kept[name][0]

            def zero(parameter: torch.Tensor, index: torch.Tensor = first.index) -> None:
                if parameter.grad is not None:
                    local = local_part(parameter.grad)
                    zeros = local.new_zeros(())
                    local.view(-1).index_put_((index,), zeros)

            handles.append(weight.parameter.register_post_accumulate_grad_hook(zero))
        return handles

    def _values(self, name: str, weight: Weight) -> torch.Tensor:
        if is_sharded(weight.parameter):
            whole = whole_value(weight.parameter)
            return whole[self._core_mask[name].to(whole.device)]
        kept = self._kept[name][0]
        return kept.bits.view(kept.dtype)


def _spread(core: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """A tensor of the parameter's shape that holds the values where the core is."""
    whole = torch.zeros(core.shape, dtype=values.dtype, device=core.device)
    whole[core] = values.to(core.device)
    return whole


def _fitting(weight: Weight, values: torch.Tensor | None, count: int) -> torch.Tensor:
    if values is None or values.numel() != count:
        raise ModelChangedError(
            f"The saved core values do not fit the mask: {count} of {weight.name!r} were expected, got "
            f"{'none' if values is None else values.numel()}. Use the file that the run itself has written."
        )
    if values.dtype != weight.parameter.dtype:
        raise ModelChangedError(
            f"The core was saved in {values.dtype} and {weight.name!r} is now {weight.parameter.dtype}, so it cannot "
            "be kept bit for bit. Load the model in the dtype that the run began with."
        )
    return values.reshape(-1)
