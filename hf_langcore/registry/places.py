"""Where an entry lies in a model: finding the tensor, editing it, and drawing places like it as controls."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from hf_langcore.architecture import Weight, find_weight, require_editable
from hf_langcore.editing import EditHandle
from hf_langcore.editing.handle import Change
from hf_langcore.errors import InputError, UnsupportedModelError
from hf_langcore.registry.entry import Entry
from hf_langcore.scanning.tensors import Tensors

_POOL = 100  # places of the most similar magnitude that controls are drawn from
_STACKED = 3

Coordinates = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A scalar, a row or a column of one weight.

    Attributes:
        weight: The weight.
        is_transposed: It is stored (inputs, outputs).
        at: One number for each axis in nn.Linear orientation, None for the axis along which everything is meant.
    """

    weight: Weight
    is_transposed: bool
    at: Coordinates

    @property
    def name(self) -> str:
        """Parameter name."""
        return self.weight.name

    def positions(self) -> torch.Tensor:
        """Flat positions in the stored tensor, int64."""
        shape = self.weight.parameter.shape
        oriented = _oriented(torch.empty(shape, device="meta"), is_transposed=self.is_transposed)
        first, steps = 0, torch.zeros(1, dtype=torch.int64)
        for one, size, stride in zip(self.at, oriented.shape, oriented.stride(), strict=True):
            if one is None:
                steps = torch.arange(size) * stride
            else:
                first += one * stride
        return first + steps

    def magnitudes(self) -> torch.Tensor:
        """How large each place of this form is in the weight: absolute values (of norms the gain), or lengths of rows or columns."""
        values = self.weight.parameter.detach().float() + self.weight.gain_offset
        values = _oriented(values, is_transposed=self.is_transposed)
        return values.norm(dim=self.at.index(None)) if None in self.at else values.abs()

    def with_numbers(self, numbers: Sequence[int]) -> Place:
        """The place of the same form elsewhere."""
        left = iter(numbers)
        return replace(self, at=tuple(None if one is None else next(left) for one in self.at))


def find_places(model: nn.Module, entry: Entry) -> list[Place]:
    """The places that an entry can mean in this model: several where its source leaves open which tensor it means.

    Raises:
        InputError: There is none; the message says which tensor or index is missing.
        UnsupportedModelError: The weight is quantised or on the meta device.
    """
    found: list[Place] = []
    reasons: list[str] = []
    for name in entry.tensors:
        try:
            found.append(_place(model, entry, find_weight(model, name)))
        except InputError as error:
            reasons.append(str(error))
    if not found:
        raise InputError(" ".join(reasons))
    for place in found:
        require_editable(place.weight)
    return found


def edit(model: nn.Module, place: Place, entry: Entry) -> EditHandle:
    """Do what an entry says, at a place; of norms the effective gain is meant."""
    change = _change(entry)
    positions = place.positions()

    def changes(weights: Mapping[str, Weight]) -> list[Change]:
        current = weights[place.name]
        at = positions.to(current.parameter.device)
        old = torch.take(current.parameter.detach(), at).float() + current.gain_offset
        values = (change(old) - current.gain_offset).to(current.parameter.dtype)
        return [Change(current, at, values)]

    amount = "" if entry.value is None else f" {entry.value:g}"
    return EditHandle(model, [place.name], changes, what=f"{entry.operation}{amount}: {place.name} {place.at}")


def controls(
    place: Place, *, count: int, taken: Collection[tuple[str, Coordinates]], generator: torch.Generator
) -> list[Place]:
    """Places of the same form in the same tensor, drawn from the hundred that are most like it in magnitude.

    Args:
        place: The place to draw controls for.
        count: How many; fewer where the tensor has no more.
        taken: Name and coordinates of places that must not be drawn, because something is known of them.
        generator: Decides.
    """
    magnitudes = place.magnitudes()
    own = tuple(one for one in place.at if one is not None)
    size = min(_POOL + len(taken) + 1, magnitudes.numel())
    nearest = (magnitudes - magnitudes[own]).abs().flatten().topk(size, largest=False).indices.cpu()
    pool = [place.with_numbers(_unravelled(int(one), magnitudes.shape)) for one in nearest]
    free = [one for one in pool if one.at != place.at and (one.name, one.at) not in taken][:_POOL]
    chosen = torch.randperm(len(free), generator=generator)[:count].tolist()
    return [free[one] for one in chosen]


def _place(model: nn.Module, entry: Entry, weight: Weight) -> Place:
    transposed = weight.is_transposed
    if weight.parameter.dim() == _STACKED:
        transposed = Tensors.of(model).matrices[weight.name].is_transposed
    shape = tuple(_oriented(torch.empty(weight.shape, device="meta"), is_transposed=transposed).shape)
    at: list[int | None] = list(entry.place)
    if entry.kind == "dimension":
        at.insert(len(at) if entry.axis == 0 else len(at) - 1, None)
    if len(at) != len(shape):
        raise InputError(
            f"{weight.name!r} has shape {shape} here, in which {entry.place} is no {entry.kind.replace('_', ' ')}."
        )
    for one, size in zip(at, shape, strict=True):
        if one is not None and one >= size:
            raise InputError(
                f"{weight.name!r} has shape {shape} here, so that there is no index {one} (0 to {size - 1})."
            )
    return Place(weight, transposed, tuple(at))


def _change(entry: Entry) -> Callable[[torch.Tensor], torch.Tensor]:
    value = entry.value or 0.0
    if entry.operation == "scale":
        return lambda old: old * value
    if entry.operation in {"set", "zero"}:
        return lambda old: torch.full_like(old, value)
    raise UnsupportedModelError(f"{entry.operation!r} cannot be done to weights (entry {entry.id!r}).")


def _oriented(stored: torch.Tensor, *, is_transposed: bool) -> torch.Tensor:
    return stored.transpose(-1, -2) if is_transposed else stored


def _unravelled(place: int, shape: Sequence[int]) -> tuple[int, ...]:
    numbers: list[int] = []
    for size in reversed(shape):
        place, number = divmod(place, size)
        numbers.append(number)
    return tuple(reversed(numbers))
