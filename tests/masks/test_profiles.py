"""Densities of a mask by cell, row and column."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_langcore.masks import PackedBits
from hf_langcore.masks.profiles import (
    as_matrix,
    binned,
    concentration,
    densest_window,
    density_grid,
    line_counts,
)

shapes = st.tuples(st.integers(1, 23), st.integers(1, 23))


def drawn(shape: tuple[int, ...], seed: int, density: float = 0.3) -> np.ndarray:
    return np.random.default_rng(seed).random(shape) < density


def test_as_matrix() -> None:
    """Rows are outputs: Conv1D's matrices are turned, vectors are one row, experts lie one below the other."""
    values = drawn((3, 5), 0)
    assert (as_matrix(PackedBits.from_bool(values)) == values).all()
    assert (as_matrix(PackedBits.from_bool(values), is_transposed=True) == values.T).all()
    assert as_matrix(PackedBits.from_bool(drawn((7,), 0))).shape == (1, 7)
    stack = drawn((2, 3, 5), 0)
    assert (as_matrix(PackedBits.from_bool(stack))[4] == stack[1, 1]).all()


@given(shapes, st.integers(1, 9), st.integers(0, 99))
def test_grid_and_bins_keep_the_mass(shape: tuple[int, int], cells: int, seed: int) -> None:
    """Every entry is in one cell; the profiles are those of the cells' rows and columns where these are of one size."""
    values = drawn(shape, seed)
    grid = density_grid(values, cells=cells)
    assert grid.shape == (min(shape[0], cells), min(shape[1], cells))
    heights, widths = (
        np.asarray([size * (k + 1) // n - size * k // n for k in range(n)])
        for size, n in zip(shape, grid.shape, strict=True)
    )
    assert (grid * np.outer(heights, widths)).sum() == pytest.approx(values.sum())
    rows, columns = line_counts(values)
    assert binned(rows, shape[1], bins=cells) == pytest.approx((grid * widths).sum(1) / shape[1])
    assert binned(columns, shape[0], bins=cells) == pytest.approx((grid * heights[:, None]).sum(0) / shape[0])


def test_grid_of_a_small_matrix_is_the_matrix() -> None:
    values = drawn((6, 4), 1)
    assert (density_grid(values, cells=6) == values).all()


@given(shapes, st.integers(1, 9), st.integers(0, 99))
def test_densest_window(shape: tuple[int, int], size: int, seed: int) -> None:
    """No other window holds more."""
    values = drawn(shape, seed)
    row, column, window = densest_window(values, size=size)
    height, width = (min(size, length) for length in shape)
    every = {
        (r, c): int(values[r : r + height, c : c + width].sum())
        for r, c in itertools.product(range(shape[0] - height + 1), range(shape[1] - width + 1))
    }
    assert (window == values[row : row + height, column : column + width]).all()
    assert window.shape == (height, width)
    assert every[row, column] == max(every.values())


def test_densest_window_of_many_entries() -> None:
    """Running sums that exceed the small number type still give right differences."""
    values = np.zeros((300, 700), dtype=np.bool_)
    values[:, :600] = True
    values[100:140] = False
    row, column, window = densest_window(values, size=48)
    assert window.all()
    assert (row, column) == (0, 0)
    large = np.zeros((400, 400), dtype=np.bool_)
    large[50:350, 60:360] = True
    assert densest_window(large, size=300)[:2] == (50, 60)


def test_concentration() -> None:
    """The share of the fullest lines; at least one line counts, and an empty mask has nothing to concentrate."""
    assert concentration(np.asarray([1, 7, 2, 0]), share=0.25) == 0.7
    assert concentration(np.asarray([1, 7, 2, 0]), share=0.26) == 0.9
    assert concentration(np.asarray([1, 7, 2, 0]), share=0.01) == 0.7
    assert concentration(np.asarray([0, 0])) == 0.0
