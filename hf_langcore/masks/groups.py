"""Choosing whole rows, columns, attention heads or layers instead of single weights.

The score of a group is the sum of its weights' scores where all groups have one size (rows and columns of a tensor) and
their mean where sizes differ (heads, layers). Groups are then chosen as weights are: int(fraction x number of groups) by
score, ties by lowest index.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, get_args

import torch

from hf_langcore.errors import ConfigurationError, CoreMaskMismatchError, InputError
from hf_langcore.masks.bits import PackedBits
from hf_langcore.masks.planes import Computed
from hf_langcore.masks.selection import Which, random_positions, select

Granularity = Literal["weights", "rows", "columns", "heads", "layers"]

_MATRIX = 2
_LAYER = re.compile(r"((?:.*?\.)?\d+)\.")


class Slab(NamedTuple):
    """Some neighbouring indices of one axis of one tensor.

    Attributes:
        parameter: Name of the tensor.
        axis: Axis of the stored tensor.
        start: First index.
        stop: Index after the last.
        fixed: Further axes with the one index of each that counts; none for whole rows and columns.
    """

    parameter: str
    axis: int
    start: int
    stop: int
    fixed: tuple[tuple[int, int], ...] = ()


class Group(Protocol):
    """Weights that are chosen together, such as `hf_langcore.heads.HeadGroup`."""

    @property
    def slabs(self) -> Sequence[Slab]:
        """Where they are."""


def check_granularity(granularity: str) -> Granularity:
    """Return `granularity` if it is one.

    Raises:
        InputError: It is not.
    """
    if granularity not in get_args(Granularity):
        raise InputError(f"granularity must be one of {list(get_args(Granularity))}, got {granularity!r}.")
    return granularity  # type: ignore[return-value]


def layer_of(name: str) -> str | None:
    """The layer that a tensor belongs to, by name up to the first number: "model.layers.3"; None outside layers."""
    found = _LAYER.match(name)
    return found[1] if found else None


def select_groups(
    scores: Mapping[str, torch.Tensor],
    *,
    granularity: Granularity,
    fraction: float,
    which: Which,
    seed: int,
    transposed: Collection[str] = (),
    heads: Sequence[Group] | None = None,
) -> Mapping[str, PackedBits]:
    """Choose groups of weights; see `CoreMask.from_scores`.

    Args:
        scores: Parameter name -> scores.
        granularity: What is chosen as a whole.
        fraction: Share of the weights, rows or columns of each tensor, or of all heads or layers.
        which: "top", "bottom" or "random".
        seed: Seed of "random".
        transposed: Names of matrices that are stored (in, out).
        heads: The attention heads, for "heads" only.

    Returns:
        Parameter name -> what was chosen; where tensors do not depend on each other, computed when it is asked for, so that
        the packed bits of a whole model need not exist at once.
    """
    if (granularity == "heads") != (heads is not None):
        raise ConfigurationError(
            'heads= goes with granularity="heads", and only with it: pass '
            "heads=hf_langcore.heads.attention_heads(model), or use compute_core_mask(model, ..., granularity="
            '"heads"), which does.'
        )
    if granularity in {"heads", "layers"}:
        slabs = _layers(scores) if heads is None else [group.slabs for group in heads]
        values = _means(scores, slabs)
        chosen = select(granularity, values, fraction=fraction, which=which, seed=seed).to_tensor()
        return fill(
            {name: tuple(tensor.shape) for name, tensor in scores.items()},
            (slab for index in chosen.nonzero().view(-1).tolist() for slab in slabs[index]),
        )

    def selected(name: str) -> PackedBits:
        tensor = scores[name]
        axis = summed_axis(granularity, tensor.dim(), is_transposed=name in transposed)
        values = tensor if axis is None else tensor.detach().sum(axis, keepdim=True, dtype=torch.float64)
        plane = select(name, values, fraction=fraction, which=which, seed=seed)
        return plane if axis is None else PackedBits.from_bool(plane.to_tensor().expand(tensor.shape))

    return Computed(scores, selected)


def fill(shapes: Mapping[str, tuple[int, ...]], slabs: Iterable[Slab]) -> dict[str, PackedBits]:
    """Bits that are True in `slabs` and nowhere else."""
    by_name: dict[str, list[Slab]] = {}
    for slab in slabs:
        by_name.setdefault(slab.parameter, []).append(slab)
    planes = {}
    for name, shape in shapes.items():
        plane = torch.zeros(shape, dtype=torch.bool)
        for slab in by_name.get(name, ()):
            part_of(plane, slab).fill_(True)
        planes[name] = PackedBits.from_bool(plane)
    return planes


def part_of(tensor: torch.Tensor, slab: Slab) -> torch.Tensor:
    """The slab of a tensor, as a view."""
    for axis, index in slab.fixed:
        tensor = tensor.narrow(axis, index, 1)
    return tensor.narrow(slab.axis, slab.start, slab.stop - slab.start) if tensor.dim() else tensor


def summed_axis(granularity: str | None, dims: int, *, is_transposed: bool) -> int | None:
    """The axis along which one row or column runs; None where single weights are chosen, as in vectors.

    Stacks of matrices have rows and columns of their own in each matrix.
    """
    if granularity not in {"rows", "columns"} or dims < _MATRIX:
        return None
    return -1 if (granularity == "rows") != is_transposed else -2


def random_groups(
    planes: Mapping[str, PackedBits], *, granularity: str | None, transposed: Collection[str], seed: int
) -> tuple[Mapping[str, PackedBits], str | None]:
    """As many random rows, columns or layers as there are in `planes`, else as many single weights.

    Returns:
        The planes, and the granularity at which they were drawn: None for single weights, where the bits are not whole
        groups or only a model could tell the groups (heads).
    """
    layers = _random_layers(planes, seed) if granularity == "layers" else None
    if layers is not None:
        return layers, granularity
    kept = granularity if granularity in {"rows", "columns"} else None

    def drawn(name: str) -> PackedBits:
        plane = planes[name]
        axis = summed_axis(kept, len(plane.shape), is_transposed=name in transposed)
        return _random_slices(name, plane, axis, seed)

    return Computed(planes, drawn), kept


def _random_plane(name: str, shape: tuple[int, ...], count: int, seed: int) -> torch.Tensor:
    """A boolean tensor with `count` random True entries."""
    chosen = torch.zeros(shape, dtype=torch.bool)
    chosen.view(-1)[torch.from_numpy(random_positions(name, chosen.numel(), count, seed=seed))] = True
    return chosen


def _random_layers(planes: Mapping[str, PackedBits], seed: int) -> dict[str, PackedBits] | None:
    layers = _layers(planes)
    shapes = {name: plane.shape for name, plane in planes.items()}
    full = [
        one for one in layers if all(planes[slab.parameter].count() == planes[slab.parameter].size for slab in one)
    ]
    whole = fill(shapes, (slab for one in full for slab in one))
    if any(whole[name].count() != plane.count() for name, plane in planes.items()):
        return None
    drawn = random_positions("layers", len(layers), len(full), seed=seed)
    return fill(shapes, (slab for index in drawn for slab in layers[index]))


def _random_slices(name: str, plane: PackedBits, axis: int | None, seed: int) -> PackedBits:
    values = plane.to_tensor()
    whole = values if axis is None else values.all(axis, keepdim=True)
    if int(whole.expand_as(values).sum()) != plane.count():
        whole = values
    drawn = _random_plane(name, tuple(whole.shape), int(whole.sum()), seed)
    return PackedBits.from_bool(drawn.expand(plane.shape))


def _layers(tensors: Mapping[str, Any]) -> list[list[Slab]]:
    """All tensors of each layer, layers in the order of the tensors."""
    layers: dict[str, list[Slab]] = {}
    for name, tensor in tensors.items():
        layer = layer_of(name)
        if layer is not None:
            layers.setdefault(layer, []).append(Slab(name, 0, 0, tensor.shape[0] if len(tensor.shape) else 1))
    if not layers:
        raise InputError(
            f"No tensor belongs to a layer: names with a number were expected, such as 'model.layers.0.mlp.up_proj.weight', "
            f"got {next(iter(tensors), None)!r}."
        )
    return list(layers.values())


def _means(scores: Mapping[str, torch.Tensor], groups: Sequence[Sequence[Slab]]) -> torch.Tensor:
    """Mean score per weight of every group, float64; each tensor is looked at once. Tensors without scores do not count."""
    parts: dict[str, list[tuple[int, Slab]]] = {}
    for index, group in enumerate(groups):
        for slab in group:
            parts.setdefault(slab.parameter, []).append((index, slab))
    sums, sizes = [0.0] * len(groups), [0] * len(groups)
    for name, values in scores.items():
        for index, slab in parts.get(name, ()):
            if values.dim() and values.shape[slab.axis] < slab.stop:
                raise CoreMaskMismatchError(
                    f"{name!r} has shape {tuple(values.shape)}, and a head in it reaches to {slab.stop} of axis {slab.axis}. "
                    "Pass the heads of the model that the scores are of."
                )
            part = part_of(values, slab)
            sums[index] += float(part.sum(dtype=torch.float64))
            sizes[index] += part.numel()
    if not all(sizes):
        raise CoreMaskMismatchError(
            f"The scores cover no tensor of {sizes.count(0)} of {len(groups)} groups, the first with "
            f"{groups[sizes.index(0)][0].parameter!r}. Pass the heads of the model that the scores are of."
        )
    return torch.tensor([total / size for total, size in zip(sums, sizes, strict=True)], dtype=torch.float64)
