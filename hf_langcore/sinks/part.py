"""Which weights meet given dimensions of the residual stream: rows that write them, columns that read them, gains on them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from hf_langcore.architecture import Weight, bare_weights
from hf_langcore.errors import InputError
from hf_langcore.masks import CoreMask
from hf_langcore.masks.groups import layer_of

_MATRIX = 2


def residual_axes(model: nn.Module, names: Iterable[str], *, width: int) -> dict[str, int | None]:
    """For each weight the axis of the stored tensor that runs along the residual stream; None where none does.

    Told by shape: an axis as long as the hidden states. A square matrix reads the stream, unless it is the last square one of its
    module, as output projections are; its bias belongs to the stream only then. Gains and biases of norms belong to it where the norm is a
    direct part of a layer, and not inside attention, where it acts on queries and keys.

    Args:
        model: The model, bare or wrapped.
        names: Parameters of the bare model.
        width: Size of the hidden states.
    """
    weights = bare_weights(model)
    last = _last_squares(weights.values())
    return {name: _axis(weights[name], weights, last, width) for name in names}


def region_of_dimensions(model: nn.Module, core_mask: CoreMask, dimensions: Sequence[int], *, width: int) -> CoreMask:
    """All weights of the mask's tensors that meet `dimensions` of the residual stream.

    `core_mask & region` is the part of a core that belongs to these dimensions, `core_mask - region` the rest.

    Args:
        model: The model of the mask.
        core_mask: Says which tensors.
        dimensions: Indices along the hidden states.
        width: Size of the hidden states.

    Raises:
        InputError: A dimension is out of range, or none is given.
    """
    if not dimensions or not all(0 <= one < width for one in dimensions):
        raise InputError(f"Pass dimensions of the hidden states from 0 to {width - 1}, got {list(dimensions)!r}.")
    axes = residual_axes(model, core_mask, width=width)
    tensors = {name: _slices(shape, axes[name], dimensions) for name, shape in core_mask.shapes().items()}
    words = f"residual dimensions {' '.join(map(str, sorted(dimensions)))}"
    source = replace(core_mask.provenance, method="given", which=None, fraction=None, tokens={}, operation=words)
    return CoreMask(tensors, provenance=source)


def _slices(shape: tuple[int, ...], axis: int | None, dimensions: Sequence[int]) -> torch.Tensor:
    chosen = torch.zeros(shape, dtype=torch.bool)
    if axis is not None:
        chosen.index_fill_(axis, torch.tensor(dimensions), True)
    return chosen


def _axis(weight: Weight, weights: Mapping[str, Weight], last: Collection[str], width: int) -> int | None:
    shape = weight.shape
    if len(shape) < _MATRIX:
        return 0 if shape == (width,) and _vector_is_residual(weight, weights, last, width) else None
    fitting = [axis for axis in (len(shape) - 2, len(shape) - 1) if shape[axis] == width]
    if len(fitting) != _MATRIX:
        return fitting[0] if fitting else None
    return _outputs(weight) if weight.name in last else len(shape) - 1 + len(shape) - 2 - _outputs(weight)


def _outputs(weight: Weight) -> int:
    """The axis of a matrix's outputs, in the stored tensor; stacks of experts are taken to be (expert, output, input)."""
    return len(weight.shape) - (1 if weight.is_transposed else 2)


def _vector_is_residual(weight: Weight, weights: Mapping[str, Weight], last: Collection[str], width: int) -> bool:
    module, _, _ = weight.name.rpartition(".")
    matrix = weights.get(f"{module}.weight")
    if matrix is not None and len(matrix.shape) >= _MATRIX:  # the bias of a matrix is one of its outputs
        return _axis(matrix, weights, last, width) == _outputs(matrix)
    layer = layer_of(weight.name)
    return layer is None or "." not in module.removeprefix(f"{layer}.")


def _last_squares(weights: Iterable[Weight]) -> set[str]:
    """The last square matrix of each module, by name: with fused queries, keys and values it is the only one."""
    found: dict[str, str] = {}
    for weight in weights:
        if len(weight.shape) >= _MATRIX and weight.shape[-1] == weight.shape[-2]:
            # Experts hold their matrices as parameters, other modules as modules with a weight.
            holder = weight.name.removesuffix(".weight").rpartition(".")[0]
            found[holder] = weight.name
    return set(found.values())
