"""The rows and columns in which a mask concentrates."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_langcore.masks.bits import PackedBits

_FALSE_POSITIVES = 0.01  # expected number of slices of a random mask that would be listed


@dataclass(frozen=True, slots=True)
class Dimension:
    """One index of one axis of one tensor.

    Attributes:
        parameter: Name of the tensor.
        axis: 0 = rows (outputs), 1 = columns (inputs), in nn.Linear orientation where the mask knows that a tensor is
            stored the other way round (GPT-2's Conv1D), so that `scale_dimension` takes it as it is.
        index: Index along the axis.
        count: Entries of the slice that are in the mask.
        size: Entries of the slice.
        evidence: How surprising the count would be in a random mask of the tensor's density, in nats (Chernoff
            bound on the binomial tail: size * KL(count / size || density)).
    """

    parameter: str
    axis: int
    index: int
    count: int
    size: int
    evidence: float

    @property
    def density(self) -> float:
        """Share of the slice that is in the mask."""
        return self.count / self.size


def concentrated(masks: Iterable[tuple[str, PackedBits]], *, transposed: Collection[str] = ()) -> list[Dimension]:
    """All slices that hold significantly more of a mask than chance would put there, strongest first.

    A slice of a matrix is listed when its evidence passes a Bonferroni bound over all slices of the tensor. A
    weight of a vector (a norm gain) is a dimension of its own and is listed when it is in the mask.

    Args:
        masks: Names and masks.
        transposed: Names of matrices that are stored (in, out); their axes are given the other way round.
    """
    found = [dimension for name, mask in masks for dimension in _of_tensor(name, mask, swap=name in transposed)]
    return sorted(found, key=lambda one: (-one.evidence, one.parameter, one.axis, one.index))


def _of_tensor(name: str, mask: PackedBits, *, swap: bool) -> Iterator[Dimension]:
    density = mask.count() / mask.size if mask.size else 0.0
    if density in {0.0, 1.0}:
        return
    values = mask.to_bool()
    slices = sum(mask.shape)
    needed = 0.0 if values.ndim == 1 else math.log(slices / _FALSE_POSITIVES)
    for axis in range(values.ndim):
        counts = values.sum(axis=tuple(other for other in range(values.ndim) if other != axis))
        size = mask.size // mask.shape[axis]
        evidence = _evidence(counts, size, density)
        for index in np.flatnonzero((counts > density * size) & (evidence >= needed)):
            yield Dimension(
                name, 1 - axis if swap else axis, int(index), int(counts[index]), size, float(evidence[index])
            )


def _evidence(counts: NDArray[Any], size: int, density: float) -> NDArray[Any]:
    """Evidence size * KL(counts / size || density) in nats."""
    share = counts / size
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = np.where(share > 0, share * np.log(share / density), 0.0)
        outside = np.where(share < 1, (1 - share) * np.log((1 - share) / (1 - density)), 0.0)
    return np.asarray(size * (inside + outside))
