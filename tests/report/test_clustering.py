"""The tree of a matrix: order of its leaves and lines."""

from __future__ import annotations

import math

import pytest

from hf_langcore.report.clustering import clustering_of
from hf_langcore.report.parts import Matrix


def _matrix(tree: object, count: int = 4) -> Matrix:
    names = tuple(map(str, range(count)))
    return Matrix("m", "M", names, names, tuple((0.0,) * count for _ in names), tree=tree)  # type: ignore[arg-type]


def test_leaves_that_are_joined_stand_together() -> None:
    """0 with 2, 1 with 3, then both pairs; as scipy writes it."""
    tree = clustering_of(_matrix(((0.0, 2.0, 1.0, 2.0), (3.0, 1.0, 2.0, 2.0), (4.0, 5.0, 4.0, 4.0))))
    assert tree is not None
    assert tree.order == (0, 2, 3, 1)
    assert tree.forks == (
        (0.25, (0.5, 0.0), (1.5, 0.0)),
        (0.5, (2.5, 0.0), (3.5, 0.0)),
        (1.0, (1.0, 0.25), (3.0, 0.5)),
    )


@pytest.mark.parametrize(
    "tree",
    [
        None,
        ((0.0, 1.0, 1.0, 2.0),),
        ((0.0, 0.0, 1.0, 2.0), (1.0, 2.0, 1.0, 2.0), (4.0, 5.0, 1.0, 4.0)),
        ((0.0, 1.0, 1.0, 2.0), (0.0, 2.0, 1.0, 2.0), (4.0, 5.0, 1.0, 4.0)),
        ((0.0, 1.0, math.nan, 2.0), (4.0, 2.0, 1.0, 3.0), (5.0, 3.0, 1.0, 4.0)),
        ((0.0,), (4.0, 2.0, 1.0, 3.0), (5.0, 3.0, 1.0, 4.0)),
    ],
)
def test_what_is_no_tree_over_the_rows_is_none(tree: object) -> None:
    assert clustering_of(_matrix(tree)) is None


def test_one_row_and_equal_distances() -> None:
    single = clustering_of(_matrix((), 1))
    assert single is not None
    assert single.order == (0,)
    flat = clustering_of(_matrix(((0.0, 1.0, 0.0, 2.0),), 2))
    assert flat is not None
    assert flat.forks[0][0] == 0
