"""Matrices made ready: order, colours, figures."""

from __future__ import annotations

import math

from hf_langcore.report.grids import grid_of
from hf_langcore.report.parts import Matrix


def test_rows_and_columns_stand_in_the_order_of_the_tree() -> None:
    values = ((1.0, 0.1, 0.9), (0.1, 1.0, 0.2), (0.9, 0.2, 1.0))
    names = ("a", "b", "c")
    grid = grid_of(Matrix("m", "M", names, names, values, tree=((0.0, 2.0, 0.1, 2.0), (3.0, 1.0, 0.9, 3.0))))
    assert grid.rows == grid.columns == ("a", "c", "b")
    assert [[cell.text for cell in row] for row in grid.cells] == [
        ["1.00", ".90", ".10"],
        [".90", "1.00", ".20"],
        [".10", ".20", "1.00"],
    ]
    assert grid.cells[0][0].step == 20
    assert grid.cells[0][2].step == 0
    assert (grid.low, grid.high) == (0.1, 1.0)


def test_signs_part_at_zero() -> None:
    grid = grid_of(Matrix("m", "M", ("a",), ("x", "y", "z", "w"), ((-2.0, 1.0, 0.0, None),), is_signed=True))
    assert [(cell.side, cell.step) for cell in grid.cells[0]] == [("n", 20), ("q", 10), ("q", 0), ("", 0)]
    assert (grid.low, grid.high) == (-2.0, 2.0)


def test_infinite_missing_and_short_rows() -> None:
    grid = grid_of(Matrix("m", "M", ("a", "b", "c"), ("x", "y"), ((math.inf, 1.0), (math.nan,))))
    assert grid.cells[0][0].step == 20
    assert grid.cells[0][0].text == "inf"
    assert {cell.side for row in grid.cells[1:] for cell in row} == {""}


def test_figures_stand_where_they_fit() -> None:
    def wide(count: int) -> bool:
        return grid_of(Matrix("m", "M", ("a",), tuple(map(str, range(count))), ((0.0,) * count,))).shows_figures

    assert wide(30)
    assert not wide(100)


def test_nothing_at_all() -> None:
    grid = grid_of(Matrix("m", "M", (), (), ()))
    assert grid.cells == ()
    assert (grid.low, grid.high) == (0.0, 0.0)
