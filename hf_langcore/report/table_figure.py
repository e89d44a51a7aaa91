"""A table whose figures span orders of magnitude: one row a line, one mark a column, on a logarithmic axis."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hf_langcore.report.canvas import MARKS, cut, dress, new_figure, words
from hf_langcore.report.numbers import LogAxis, log_ticks, short, value_of
from hf_langcore.report.palette import Look
from hf_langcore.report.parts import Cell, Spread, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_EMPTY = LogAxis(1.0, 10.0)
_STEP = 0.14  # of a row, between the marks of its columns
_MOST = 120  # rows; a table goes on in the page


def bar_columns(part: Table) -> list[int]:
    """Numbers of the columns that have bars."""
    return [number for number, column in enumerate(part.columns) if number and column in part.log_bars]


def bar_axis(part: Table) -> LogAxis:
    """The axis that they share."""
    columns = bar_columns(part)
    values = (value_of(row[number]) for row in part.rows for number in columns if number < len(row))
    return LogAxis.over(values) or _EMPTY


def table_figure(part: Table, look: Look) -> Figure:
    """Draw the columns of `log_bars`; infinite figures stand at the right edge, hollow."""
    part = replace(part, rows=part.rows[:_MOST])
    columns = bar_columns(part)
    legend = 0.3 + 0.2 * math.ceil(len(columns) / 3)
    figure = new_figure(7.2, 1.4 + 0.21 * max(len(part.rows), 1) + legend, look)
    axes = figure.add_subplot()
    axis = bar_axis(part)
    edge = axis.high * (axis.high / axis.low) ** 0.03
    for number, column in enumerate(columns):
        _mark(axes, part, column, number, edge, look, lift=_STEP * (number - (len(columns) - 1) / 2))
    axes.set_xscale("log")
    axes.set_xlim(axis.low, edge * (edge / axis.low) ** 0.03)
    ticks = log_ticks(axis.low, edge)
    axes.set_xticks(ticks, [short(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(part.rows)), [cut(str(row[0]) if row else "", 28) for row in part.rows], fontsize=8)
    axes.set_ylim(max(len(part.rows), 1) - 0.4, -0.6)
    axes.set_title(words(part.title, width=84), fontsize=10, loc="left", color=look.text)
    dress(axes, look)
    figure.legend(loc="outside lower center", ncols=3, fontsize=7.5, frameon=False, labelcolor=look.text)
    return figure


def _mark(axes: Axes, part: Table, column: int, number: int, edge: float, look: Look, *, lift: float) -> None:
    colour = look.series[number % len(look.series)]
    options: dict[str, Any] = {"color": colour, "marker": MARKS[number % len(MARKS)], "linestyle": "none"}
    cells: list[Cell] = [row[column] if column < len(row) else None for row in part.rows]
    values = [value_of(cell) for cell in cells]
    seen = [(value, y + lift) for y, value in enumerate(values) if value is not None and 0 < value < math.inf]
    lost = [y + lift for y, value in enumerate(values) if value == math.inf]
    name = cut(part.columns[column], 28).lstrip("_") or " "
    axes.plot([x for x, _ in seen], [y for _, y in seen], label=name, markersize=5, **options)
    axes.plot([edge] * len(lost), lost, markerfacecolor=look.background, markersize=6, **options)
    for y, cell in enumerate(cells):
        if isinstance(cell, Spread) and cell.low > 0 and not math.isnan(cell.high):
            axes.plot([cell.low, min(cell.high, edge)], [y + lift] * 2, color=colour, linewidth=1, alpha=0.6)
