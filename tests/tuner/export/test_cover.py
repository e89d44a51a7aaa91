from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from hf_langcore.tuner.export.cover import minimum_cover

Bools = NDArray[np.bool_]

SMALL = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=6))


def smallest(marked: Bools) -> int:
    """Size of a smallest cover, by trying all sets of rows."""
    every = range(marked.shape[0])
    sets = itertools.chain.from_iterable(itertools.combinations(every, size) for size in range(len(every) + 1))
    return min(len(rows) + int(np.delete(marked, rows, axis=0).any(axis=0).sum()) for rows in sets)


def is_covered(marked: Bools, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> bool:
    left = marked.copy()
    left[rows] = False
    left[:, columns] = False
    return not left.any()


@given(SMALL)
def test_covers_with_as_few_as_possible(marked: Bools) -> None:
    """Every marked entry lies in a row or column of the cover, and no cover is smaller."""
    before = marked.copy()
    rows, columns = minimum_cover(marked)
    assert is_covered(marked, rows, columns)
    assert len(rows) + len(columns) == smallest(marked)
    assert (np.diff(rows) > 0).all()
    assert (np.diff(columns) > 0).all()
    assert (marked == before).all()


@given(st.integers(0, 2**32 - 1))
def test_long_alternating_paths(seed: int) -> None:
    """A chain in random order leaves the greedy start with long paths to flip; the cover has one row or column a link."""
    links = 40
    chain = np.eye(links, links + 1, dtype=np.bool_) | np.eye(links, links + 1, k=1, dtype=np.bool_)
    random = np.random.default_rng(seed)
    shuffled = chain[random.permutation(links)][:, random.permutation(links + 1)]
    rows, columns = minimum_cover(shuffled)
    assert is_covered(shuffled, rows, columns)
    assert len(rows) + len(columns) == links


@pytest.mark.parametrize("density", [1e-4, 3e-4, 0.03])
def test_large_matrices(density: float) -> None:
    """A layer of usual size; the cover takes no more than the rows or the columns that have entries."""
    marked = np.random.default_rng(0).random((1024, 1536)) < density
    rows, columns = minimum_cover(marked)
    assert is_covered(marked, rows, columns)
    assert len(rows) + len(columns) <= min(marked.any(axis=1).sum(), marked.any(axis=0).sum())


def test_few_rows_and_columns() -> None:
    """What lies in two rows and one column is covered by these."""
    marked = np.zeros((50, 60), dtype=np.bool_)
    marked[[3, 40]] = True
    marked[:, 7] = True
    rows, columns = minimum_cover(marked)
    assert rows.tolist() == [3, 40]
    assert columns.tolist() == [7]
