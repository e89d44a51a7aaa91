"""How far critical dimensions and the core have moved since training began."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hf_langcore.architecture import Weight, find_weight
from hf_langcore.binding import bind
from hf_langcore.errors import ConfigurationError, InputError, UnsupportedModelError
from hf_langcore.masks import CoreMask, bits_of
from hf_langcore.scanning.tensors import norm_weights
from hf_langcore.training.holdings import is_sharded, whole_value

STRONGEST = 64
"""So many of a core mask's dimensions are watched where none are named."""

_FLOOR = 0.1  # of the root mean square over the tensor: changes of dimensions near zero count relative to that
_NAME_ALONE, _WITH_INDEX, _WITH_AXIS = 1, 2, 3
_MATRIX = 2


@dataclass(frozen=True, slots=True)
class Drift:
    """What has moved since training began.

    Attributes:
        largest: Largest relative change of a watched dimension; 0 where none is watched.
        where: That dimension, such as "model.norm.weight[17]".
        core_moved: Share of the core's weights with other bits than at the start; None without a core mask.
        core_l2: Euclidean norm of the core's change divided by that of its start; None without a core mask.
    """

    largest: float = 0.0
    where: str | None = None
    core_moved: float | None = None
    core_l2: float | None = None


@dataclass(frozen=True, slots=True)
class _Group:
    """Watched dimensions along one axis of one tensor; without an axis single weights, counted row after row."""

    weight: Weight
    axis: int | None
    index: tuple[int, ...]
    offset: float

    @property
    def key(self) -> str:
        return f"{self.weight.name}|{self.axis}|{','.join(map(str, self.index))}"

    def slices(self) -> torch.Tensor:
        """All slices of the tensor along the axis: float32, (slices, rest)."""
        values = whole_value(self.weight.parameter).float()
        if self.axis is None:
            return (values.t() if self.weight.is_transposed else values).reshape(-1, 1).cpu()
        if values.dim() == 1:
            return values[:, None].cpu() + self.offset
        return values.movedim(self.weight.storage_axis(self.axis), 0).flatten(1).cpu()

    def label(self, position: int) -> str:
        if self.axis is None:
            columns = _shape(self.weight)[self.weight.storage_axis(1)]
            return f"{self.weight.name}[{', '.join(map(str, divmod(self.index[position], columns)))}]"
        where = f"[{self.index[position]}]"
        return self.weight.name + (where if self.axis == 0 else f"[:, {self.index[position]}]")


class DriftWatch:
    """Compares watched dimensions and the core with what they were when training began.

    The change of a dimension is the Euclidean norm of its change divided by that of its start, and by at least a tenth of
    the root mean square over the tensor's dimensions. Norm weights count with the gain that they have (1 + weight in
    Gemma). Of sharded parameters the whole is gathered, one at a time, so all processes must call.

    Args:
        model: The model, bare or wrapped; base weights are compared, whatever adapters do.
        dimensions: (name, index), (name, index, axis), (name, (row, column)) or objects with `.parameter`, `.axis` and `.index`, as
            `find_critical_dimensions` and `CoreMask.dimensions` give them. None takes the strongest dimensions of the
            core mask, or else all norm weights.
        core_mask: The core whose weights are compared.
        start: What `start_values` gave when the run began; None takes the live weights.

    Raises:
        InputError: A dimension does not exist.
        CoreMaskMismatchError: The mask is of another architecture.
        ConfigurationError: `start` was taken with other dimensions or another mask.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        dimensions: Iterable[Any] | None = None,
        core_mask: CoreMask | None = None,
        start: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        weights = {} if core_mask is None else bind(model, core_mask, base_check="off")
        self._core = {
            name: (weight, core_mask[name].reshape(-1).nonzero().reshape(-1))
            for name, weight in weights.items()
            if core_mask is not None and core_mask.count(name)
        }
        self._groups = _grouped(_chosen(model, dimensions, core_mask))
        self._start = self._read() if start is None else _fitting(start, self._keys())

    def start_values(self) -> dict[str, torch.Tensor]:
        """What has to be kept so that a resumed run compares with the same start."""
        return dict(self._start)

    def now(self) -> Drift:
        """Compare the live weights with the start."""
        largest, where = 0.0, None
        for group in self._groups:
            start, floor = self._start[group.key], float(self._start[f"floor|{group.key}"])
            moved = (group.slices()[list(group.index)] - start).norm(dim=1)
            change = (moved / start.norm(dim=1).clamp_min(max(floor, torch.finfo().tiny))).nan_to_num(nan=float("inf"))
            worst = int(change.argmax())
            if float(change[worst]) > largest:
                largest, where = float(change[worst]), group.label(worst)
        if not self._core:
            return Drift(largest, where)
        return Drift(largest, where, *self._core_drift())

    def _core_drift(self) -> tuple[float, float]:
        moved = count = 0
        change = size = 0.0
        for name, (weight, index) in self._core.items():
            start = self._start[f"core|{name}"]
            live = _at(weight, index)
            moved += int((bits_of(live.to(start.dtype)) != bits_of(start)).sum())
            count += index.numel()
            change += float((live.double() - start.double()).square().sum())
            size += float(start.double().square().sum())
        return moved / count, (change / size) ** 0.5 if size else 0.0

    def _read(self) -> dict[str, torch.Tensor]:
        found = {f"core|{name}": _at(weight, index) for name, (weight, index) in self._core.items()}
        for group in self._groups:
            slices = group.slices()
            found[group.key] = slices[list(group.index)].contiguous()
            found[f"floor|{group.key}"] = _FLOOR * slices.norm(dim=1).square().mean().sqrt()
        return found

    def _keys(self) -> list[str]:
        groups = [key for group in self._groups for key in (group.key, f"floor|{group.key}")]
        return [*(f"core|{name}" for name in self._core), *groups]


def _at(weight: Weight, index: torch.Tensor) -> torch.Tensor:
    whole = whole_value(weight.parameter).reshape(-1)
    return whole[index.to(whole.device)].cpu()


def _fitting(start: Mapping[str, torch.Tensor], keys: list[str]) -> dict[str, torch.Tensor]:
    if set(start) != set(keys):
        raise ConfigurationError(
            "The run began with other watched dimensions or another core mask, so the drift since its start cannot be "
            "told. Resume with the dimensions= and core_mask= that it began with, or start in another output_dir."
        )
    return dict(start)


def _chosen(model: nn.Module, dimensions: Iterable[Any] | None, core_mask: CoreMask | None) -> list[tuple[Any, ...]]:
    if dimensions is not None:
        return [_parsed(model, dimension) for dimension in dimensions]
    strongest = [] if core_mask is None else core_mask.dimensions(limit=STRONGEST)
    if strongest:
        return [_parsed(model, dimension) for dimension in strongest]
    try:
        norms = norm_weights(model)
    except UnsupportedModelError:  # nothing to watch by default is no reason to refuse training
        return []
    return [(weight, 0, index) for weight in norms.values() for index in range(_shape(weight)[0])]


def _parsed(model: nn.Module, dimension: Any) -> tuple[Weight, int | None, int]:
    """Weight, axis and index of a dimension in any of its forms; of a single weight its place, row after row."""
    values = dimension if isinstance(dimension, (tuple, list)) else _attributes(dimension)
    if not _NAME_ALONE < len(values) <= _WITH_AXIS or not isinstance(values[0], str):
        raise InputError(
            "A dimension is (parameter name, index), (parameter name, index, axis) or what find_critical_dimensions "
            f"and CoreMask.dimensions give; got {dimension!r}."
        )
    weight, index = find_weight(model, values[0]), values[1]
    shape = _shape(weight)
    if isinstance(index, (tuple, list)):
        return weight, None, _place(weight, index)
    axis = values[2] if len(values) == _WITH_AXIS else 0
    if len(values) == _WITH_INDEX and len(shape) > 1:
        raise InputError(
            f"{weight.name!r} is a matrix: say which axis, (name, index, axis), 0 = rows (outputs), 1 = columns (inputs)."
        )
    if axis not in range(len(shape)):
        raise InputError(f"{weight.name!r} has the axes {list(range(len(shape)))}, got axis {axis!r}.")
    size = shape[weight.storage_axis(axis)]
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < size:
        raise InputError(f"{weight.name!r} has {size} dimensions along axis {axis}, from 0; got index {index!r}.")
    return weight, axis, index


def _place(weight: Weight, index: Sequence[Any]) -> int:
    shape = _shape(weight)
    sizes = tuple(shape[weight.storage_axis(axis)] for axis in (0, 1)) if len(shape) == _MATRIX else ()
    whole = all(isinstance(one, int) and not isinstance(one, bool) for one in index)
    if (
        len(index) != len(sizes)
        or not whole
        or not all(0 <= one < size for one, size in zip(index, sizes, strict=True))
    ):
        raise InputError(
            f"A single weight is (row, column) of a matrix, in nn.Linear orientation; got {tuple(index)!r} of {weight.name!r} "
            f"with shape {shape}. Weights of stacked experts cannot be watched one by one."
        )
    return int(index[0]) * sizes[1] + int(index[1])


def _attributes(dimension: Any) -> tuple[Any, ...]:
    return tuple(getattr(dimension, name, None) for name in ("parameter", "index", "axis"))


def _grouped(chosen: list[tuple[Any, ...]]) -> list[_Group]:
    weights: dict[tuple[str, int | None], Weight] = {}
    indices: dict[tuple[str, int | None], list[int]] = {}
    for weight, axis, index in chosen:
        weights[weight.name, axis] = weight
        indices.setdefault((weight.name, axis), []).append(index)
    return [
        _Group(weight, key[1], tuple(sorted(set(indices[key]))), _gain_offset(weight))
        for key, weight in weights.items()
    ]


def _gain_offset(weight: Weight) -> float:
    """What a norm adds to its weight. A norm whose weight is sharded is asked through a copy that has all of it."""
    if len(_shape(weight)) > 1 or not is_sharded(weight.parameter):
        return weight.gain_offset
    norm, whole = copy.copy(weight.owner), nn.Parameter(whole_value(weight.parameter))
    norm._parameters = {**norm._parameters, "weight": whole}  # noqa: SLF001 the copy still shares this dictionary
    return Weight(weight.name, whole, norm).gain_offset


def _shape(weight: Weight) -> tuple[int, ...]:
    """The whole shape; DeepSpeed's partitioned parameters are empty vectors that remember it."""
    return tuple(getattr(weight.parameter, "ds_shape", weight.shape))
