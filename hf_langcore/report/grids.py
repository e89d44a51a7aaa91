"""A matrix made ready to be drawn: rows and columns in order, a colour for each cell, and whether figures fit."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hf_langcore.report.clustering import Clustering, clustering_of
from hf_langcore.report.numbers import decimals_of, finite, in_grid
from hf_langcore.report.palette import step_of
from hf_langcore.report.parts import Matrix

FIGURES_UNTIL = 40  # columns


@dataclass(frozen=True, slots=True)
class GridCell:
    """One cell.

    Attributes:
        text: Its figure.
        side: "q" for the colours of a figure from none to most, "n" for those below zero, "" for an empty cell.
        step: Number of the colour.
    """

    text: str
    side: str
    step: int


@dataclass(frozen=True, slots=True)
class Grid:
    """A matrix, ready to be drawn.

    Attributes:
        rows: Names from top to bottom.
        columns: Names from left to right.
        cells: By row.
        low: The figure of the first colour.
        high: The figure of the last colour.
        shows_figures: Whether figures are few enough to stand in the cells.
        tree: The clustering, where there is one.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[GridCell, ...], ...]
    low: float
    high: float
    shows_figures: bool
    tree: Clustering | None


def grid_of(part: Matrix) -> Grid:
    """Put a matrix in the order of its tree and choose the colours.

    A figure's colour says where it lies between the smallest and the largest finite one, or how far from zero.
    """
    tree = clustering_of(part)
    rows = tree.order if tree else tuple(range(len(part.rows)))
    columns = tree.order if tree else tuple(range(len(part.columns)))
    values = [_at(part, row, column) for row in rows for column in columns]
    low, high = _ends(values, is_signed=part.is_signed)
    decimals = max(decimals_of(values) - 1, 0)  # cells are narrow
    cells = tuple(
        tuple(_cell(_at(part, row, column), low, high, decimals, is_signed=part.is_signed) for column in columns)
        for row in rows
    )
    names = tuple(part.rows[row] for row in rows), tuple(part.columns[column] for column in columns)
    return Grid(*names, cells, low, high, len(columns) <= FIGURES_UNTIL, tree)


def _at(part: Matrix, row: int, column: int) -> float | None:
    """The figure there; rows that are too short have none at their ends."""
    line = part.values[row] if row < len(part.values) else ()
    value = line[column] if column < len(line) else None
    return None if value is None or math.isnan(value) else value


def _ends(values: list[float | None], *, is_signed: bool) -> tuple[float, float]:
    known = finite(values) or [0.0]
    if is_signed:
        size = max(map(abs, known))
        return -size, size
    return min(known), max(known)


def _cell(value: float | None, low: float, high: float, decimals: int, *, is_signed: bool) -> GridCell:
    if value is None:
        return GridCell("", "", 0)
    text = in_grid(value, decimals)
    if not is_signed:
        return GridCell(text, "q", step_of(value, low, high))
    return GridCell(text, "n" if value < 0 else "q", step_of(abs(value), 0.0, high))
