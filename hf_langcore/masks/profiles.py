"""Where a mask lies in one matrix: density by cell, by row and by column, and the densest place at full resolution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_langcore.masks.bits import Bools, PackedBits

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

_MATRIX = 2


def as_matrix(mask: PackedBits, *, is_transposed: bool = False) -> Bools:
    """A mask as rows (outputs) and columns (inputs); a vector is one row, a stack of matrices one below the other.

    Args:
        mask: Of any shape.
        is_transposed: The matrix is stored (in, out).
    """
    values = mask.to_bool()
    if values.ndim < _MATRIX:
        return values.reshape(1, -1)
    matrix = values.reshape(-1, values.shape[-1])
    return matrix.T if is_transposed else matrix


def line_counts(matrix: Bools) -> tuple[Counts, Counts]:
    """Entries of each row and of each column."""
    return matrix.sum(axis=1, dtype=np.int64), matrix.sum(axis=0, dtype=np.int64)


def density_grid(matrix: Bools, *, cells: int) -> Floats:
    """Share of the entries of each cell that are True; at most `cells` x `cells`, single entries where there are no more."""
    rows, columns = (_edges(size, cells) for size in matrix.shape)
    summed = np.add.reduceat(matrix, rows[:-1], axis=0, dtype=np.int64)
    counts = np.add.reduceat(summed, columns[:-1], axis=1)
    return np.asarray(counts / np.outer(np.diff(rows), np.diff(columns)))


def binned(counts: Counts, length: int, *, bins: int) -> Floats:
    """Mean density of neighbouring lines, in at most `bins` bins.

    Args:
        counts: Entries of each line.
        length: Entries that a line has room for.
        bins: As the cells of `density_grid`.
    """
    edges = _edges(counts.size, bins)
    return np.asarray(np.add.reduceat(counts, edges[:-1]) / (np.diff(edges) * length))


def densest_window(matrix: Bools, *, size: int) -> tuple[int, int, Bools]:
    """The window of at most `size` x `size` that holds most, the first of several.

    Returns:
        First row, first column, and the entries of the window.
    """
    height, width = (min(size, length) for length in matrix.shape)
    # Sums of a window stay below 2**16 for any size up to 255, so that wrapped sums give right differences.
    kind: Any = np.uint16 if height * width < 1 << 16 else np.uint32
    sums = _sliding(_sliding(matrix, height, kind).T, width, kind)
    column, row = np.unravel_index(int(np.argmax(sums)), sums.shape)
    return int(row), int(column), matrix[row : row + height, column : column + width].copy()


def concentration(counts: Counts, *, share: float = 0.01) -> float:
    """Part of all entries that lies in the fullest lines.

    Args:
        counts: Entries of each line.
        share: So many of the lines, at least one.
    """
    total = int(counts.sum())
    lines = max(1, math.ceil(share * counts.size))
    return float(np.sort(counts)[-lines:].sum() / total) if total else 0.0


def _edges(size: int, parts: int) -> Counts:
    count = min(size, parts)
    return np.asarray(np.arange(count + 1, dtype=np.int64) * size // count)


def _sliding(values: NDArray[Any], length: int, kind: Any) -> NDArray[Any]:
    """Sums of `length` neighbours along the first axis, wrapped at the end of the number type."""
    sums = np.zeros((values.shape[0] + 1, values.shape[1]), dtype=kind)
    np.cumsum(values, axis=0, dtype=kind, out=sums[1:])
    return np.asarray(sums[length:] - sums[:-length])
