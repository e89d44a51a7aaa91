"""Rows and columns of a matrix in classes of similar density, so that each meeting of two classes is coded on its own.

Cores concentrate in few rows and columns. Where a row class meets a column class the entries are spread evenly, and an
ordinary code is near the bound for them; all together lie below the bound for a matrix whose entries are all spread evenly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_langcore.masks.bits import Bools, Bytes
from hf_langcore.masks.rice import Positions, StreamError, byte_count

MAX_CLASSES = 8

_LOWEST, _HIGHEST = (-3, 1), 4  # classes are powers of two of the mean density; all of them, or the dense ones only
_CHUNK = 1 << 22  # entries whose positions are looked at together
_BLOCK_COST = 24  # bytes that describe one block
_NOTHING = 0.995  # of what a matrix takes without classes
_WORTH = 0.97  # classes make decoding slower, so they have to save some

Labels = NDArray[np.intp]
Counts = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """A class for every row and every column.

    Attributes:
        rows: Class of each row, from 0 on.
        columns: Class of each column, from 0 on.
        row_classes: Number of row classes, 1 to 8.
        column_classes: Number of column classes, 1 to 8.
    """

    rows: Labels
    columns: Labels
    row_classes: int
    column_classes: int

    @classmethod
    def of(cls, rows: Labels, columns: Labels) -> Grid:
        """The grid of labels that use every class up to the largest."""
        return cls(rows, columns, int(rows.max()) + 1, int(columns.max()) + 1)

    def lines(self, row_class: int, column_class: int) -> tuple[Positions, Positions]:
        """The rows and the columns of one block."""
        return np.flatnonzero(self.rows == row_class), np.flatnonzero(self.columns == column_class)

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Row class and column class of every block, in the order of the file."""
        return ((row, column) for row in range(self.row_classes) for column in range(self.column_classes))

    def pack(self) -> Bytes:
        """The labels as bit planes, rows first."""
        planes = [*_planes(self.rows, self.row_classes), *_planes(self.columns, self.column_classes)]
        return np.concatenate(planes) if planes else np.empty(0, dtype=np.uint8)

    @classmethod
    def unpack(cls, data: Bytes, shape: tuple[int, int], classes: tuple[int, int]) -> Grid:
        """The reverse of `pack`.

        Raises:
            StreamError: A label names no class.
        """
        middle = packed_size(shape[0], classes[0])
        rows = _labels_of(data[:middle], shape[0], classes[0])
        columns = _labels_of(data[middle:], shape[1], classes[1])
        return cls(rows, columns, *classes)


def packed_size(lines: int, classes: int) -> int:
    """Bytes of the labels of so many rows or columns."""
    return (classes - 1).bit_length() * byte_count(lines)


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """A tensor as a matrix: the last axis is the columns, all others are rows. A vector is one row."""
    return math.prod(shape[:-1]), shape[-1] if shape else 1


def best_grid(values: Bools, plain_bytes: int) -> Grid | None:
    """The classes that make a matrix smallest, or None where they save little.

    Args:
        values: Boolean matrix with at least one entry.
        plain_bytes: What it takes without classes.
    """
    row_counts, column_counts = _line_counts(values)
    options = []
    for lowest in _LOWEST:
        rows, columns = _labels(row_counts, lowest), _labels(column_counts, lowest)
        by_line = [
            (_line_cost(rows, row_counts, columns.size), Grid.of(rows, np.zeros_like(columns))),
            (_line_cost(columns, column_counts, rows.size), Grid.of(np.zeros_like(rows), columns)),
        ]
        options += by_line
        if min(cost for cost, _ in by_line) <= _NOTHING * plain_bytes:  # else their meetings do not differ either
            full = Grid.of(rows, columns)
            sizes = np.outer(np.bincount(rows), np.bincount(columns))
            options.append((_cost(_block_counts(values, full), sizes), full))
    cost, best = min(((cost + grid.pack().size, grid) for cost, grid in options), key=lambda option: option[0])
    return best if cost < _WORTH * plain_bytes else None


def _line_counts(values: Bools) -> tuple[Counts, Counts]:
    """Number of True entries of each row and of each column."""
    rows, columns = np.zeros(values.shape[0], np.int64), np.zeros(values.shape[1], np.int64)
    for row, column in _positions(values):
        rows += np.bincount(row, minlength=rows.size)
        columns += np.bincount(column, minlength=columns.size)
    return rows, columns


def _block_counts(values: Bools, grid: Grid) -> Counts:
    counts = np.zeros(grid.row_classes * grid.column_classes, np.int64)
    for row, column in _positions(values):
        blocks = grid.rows[row]
        blocks *= grid.column_classes
        blocks += grid.columns[column]
        counts += np.bincount(blocks, minlength=counts.size)
    return counts.reshape(grid.row_classes, grid.column_classes)


def _positions(values: Bools) -> Iterator[tuple[Positions, Positions]]:
    """Rows and columns of the True entries, some at a time: a dense matrix has more positions than fit into memory."""
    rows, columns = values.shape
    step = max(_CHUNK // columns, 1)
    for start in range(0, rows, step):
        flat = np.flatnonzero(values[start : start + step])
        row = flat // columns
        yield row + start, flat - row * columns


def _labels(counts: Counts, lowest: int) -> Labels:
    """Classes by powers of two of the mean count."""
    octaves = np.rint(np.log2(np.maximum(counts, 0.5) / max(counts.mean(), 0.5))).clip(lowest, _HIGHEST)
    return np.asarray(np.unique(octaves, return_inverse=True)[1], dtype=np.intp).reshape(-1)


def _line_cost(labels: Labels, counts: Counts, length: int) -> float:
    """Cost of classes of rows or of columns alone, of `length` entries each."""
    return _cost(np.bincount(labels, weights=counts), np.bincount(labels) * length)


def _cost(counts: Counts, sizes: Counts) -> float:
    """Bytes of Rice streams of blocks in which the entries are spread evenly."""
    size = sizes.ravel().astype(np.float64)
    count = counts.ravel().astype(np.float64)
    count = np.minimum(count, size - count)  # the smaller side is stored
    size, count = size[count > 0], count[count > 0]
    share = count / size
    low = np.maximum(np.floor(np.log2(math.log(2) / share)), 0)
    skipped = (1 - share) ** (2**low)  # of a unary step to be followed by another
    bits = count * (low + 1 + skipped / (1 - skipped))
    described = int(np.count_nonzero(counts)) * _BLOCK_COST
    return float(bits.sum()) / 8 + described


def _planes(labels: Labels, classes: int) -> list[Bytes]:
    return [np.packbits(labels >> plane & 1 != 0, bitorder="little") for plane in range((classes - 1).bit_length())]


def _labels_of(data: Bytes, lines: int, classes: int) -> Labels:
    labels = np.zeros(lines, dtype=np.intp)
    for plane, bits in enumerate(data.reshape((classes - 1).bit_length(), byte_count(lines))):
        values: Any = np.unpackbits(bits, bitorder="little")
        if values[lines:].any():
            raise StreamError("it holds bits beyond its last label")
        labels += values[:lines].astype(np.intp) << plane
    if labels.max(initial=0) >= classes:
        raise StreamError(f"a label names a class beyond the {classes} that it declares")
    return labels
