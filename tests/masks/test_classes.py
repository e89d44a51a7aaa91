"""Classes of rows and columns: found where they save, stored in a few planes, read with suspicion."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_langcore.masks.classes import MAX_CLASSES, Grid, best_grid, matrix_shape, packed_size
from hf_langcore.masks.rice import StreamError


def sparse(shape: tuple[int, int] = (400, 300)) -> np.ndarray:
    return np.asarray(np.random.default_rng(0).random(shape) < 0.02)


def test_a_tensor_as_a_matrix() -> None:
    """The last axis is the columns."""
    assert [matrix_shape(shape) for shape in ((), (5,), (2, 3), (2, 3, 4))] == [(1, 1), (1, 5), (2, 3), (6, 4)]


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_labels_are_read_back(row_classes: int, column_classes: int, rows: int, columns: int, seed: int) -> None:
    """For any number of classes, also ones that no line is in."""
    generator = np.random.default_rng(seed)
    grid = Grid(
        generator.integers(0, row_classes, rows),
        generator.integers(0, column_classes, columns),
        row_classes,
        column_classes,
    )
    data = grid.pack()
    assert data.size == packed_size(rows, row_classes) + packed_size(columns, column_classes)
    read = Grid.unpack(data, (rows, columns), (row_classes, column_classes))
    assert np.array_equal(read.rows, grid.rows)
    assert np.array_equal(read.columns, grid.columns)
    assert len(list(read.blocks())) == row_classes * column_classes


def test_blocks_cover_every_entry_once() -> None:
    """Whatever the labels."""
    grid = Grid.of(np.array([0, 1, 0, 2]), np.array([1, 0, 0]))
    seen = np.zeros((4, 3), dtype=int)
    for block in grid.blocks():
        seen[np.ix_(*grid.lines(*block))] += 1
    assert (seen == 1).all()


def test_evenly_spread_entries_have_no_classes() -> None:
    """Nor do those whose lines differ by chance only."""
    assert best_grid(sparse(), 2150) is None


@pytest.mark.parametrize(("rows", "columns"), [(True, False), (False, True), (True, True)])
def test_hot_lines_have_classes_of_their_own(rows: bool, columns: bool) -> None:
    """Along the axes in which the matrix is concentrated, and only these."""
    values = sparse()
    if rows:
        values[7:11] = True
    if columns:
        values[:, 30:36] = True
    grid = best_grid(values, 3600)
    assert grid is not None
    assert (len(set(grid.rows[7:11])) == 1 and (grid.rows == grid.rows[7]).sum() == 4) == rows
    assert (len(set(grid.columns[30:36])) == 1 and (grid.columns == grid.columns[30]).sum() == 6) == columns
    assert max(grid.row_classes, grid.column_classes) <= MAX_CLASSES


def test_wrong_labels_are_refused() -> None:
    """Labels of classes that are not declared, and bits beyond the last line."""
    with pytest.raises(StreamError, match="beyond the 3"):
        Grid.unpack(np.array([0b11, 0b11], dtype=np.uint8), (2, 5), (3, 1))
    with pytest.raises(StreamError, match="beyond its last label"):
        Grid.unpack(np.array([0b100], dtype=np.uint8), (2, 5), (2, 1))
