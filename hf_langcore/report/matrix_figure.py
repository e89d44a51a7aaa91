"""A grid of figures as colours, with the tree of its rows beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hf_langcore.report.canvas import cut, dress, new_figure, words
from hf_langcore.report.grids import Grid, GridCell, grid_of
from hf_langcore.report.numbers import short
from hf_langcore.report.palette import Look, words_on
from hf_langcore.report.parts import Matrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LONGEST_NAME = 22
_FIGURES_UNTIL = 16  # columns; more would not be read on a picture
_LARGEST = 11.0  # inches of the cells


def matrix_figure(part: Matrix, look: Look) -> Figure:
    """Draw a matrix; columns and rows in the order of its tree, where it has one."""
    grid = grid_of(part)
    across, down = max(len(grid.columns), 1), max(len(grid.rows), 1)
    cell = 0.52 if across <= _FIGURES_UNTIL else 0.26
    names = 0.075 * min(max(map(len, grid.rows), default=1), _LONGEST_NAME)
    width = max(min(cell * across, _LARGEST) + names + (1.1 if grid.tree else 0.2) + 1.0, 4.5)
    above = 0.075 * min(max(map(len, grid.columns), default=1), _LONGEST_NAME)  # names may stand upright
    figure = new_figure(width, max(min(0.28 * down, _LARGEST) + above + 1.2, 2.2), look)
    axes = _axes(figure, grid, look)
    pixels = [[_rgb(_colour(one, look)) for one in row] or [_rgb(look.panel)] for row in grid.cells]
    axes.imshow(pixels or [[_rgb(look.panel)]], aspect="auto", interpolation="nearest")
    _strike_empty(axes, grid, look)
    _name(axes, grid)
    dress(axes, look, grid=False)
    if across <= _FIGURES_UNTIL:
        _write(axes, grid, look)
    _scale(figure, axes, part, grid, look)
    figure.suptitle(words(part.title, width=int(11 * width)), fontsize=10, x=0.01, ha="left", color=look.text)
    return figure


def _axes(figure: Figure, grid: Grid, look: Look) -> Axes:
    if grid.tree is None:
        return figure.add_subplot()
    beside, axes = figure.subplots(1, 2, width_ratios=[0.8, 6])
    for share, one, other in grid.tree.forks:
        beside.plot(
            [one[1], share, share, other[1]], [one[0], one[0], other[0], other[0]], color=look.muted, linewidth=0.9
        )
    beside.set_ylim(len(grid.rows), 0)
    beside.set_xlim(1.03, 0)
    beside.set_axis_off()
    return axes  # type: ignore[no-any-return]


def _strike_empty(axes: Axes, grid: Grid, look: Look) -> None:
    """A stroke through cells without a figure, which must not pass for figures near zero."""
    for row, cells in enumerate(grid.cells):
        for column, one in enumerate(cells):
            if not one.side:
                axes.plot([column - 0.3, column + 0.3], [row + 0.3, row - 0.3], color=look.muted, linewidth=0.5)


def _name(axes: Axes, grid: Grid) -> None:
    size = 8 if len(grid.rows) <= 60 else 5  # noqa: PLR2004
    axes.set_yticks(range(len(grid.rows)), [cut(name, _LONGEST_NAME) for name in grid.rows], fontsize=size)
    columns = [cut(name, _LONGEST_NAME) for name in grid.columns]
    turn = 90 if max(map(len, columns), default=0) > (6 if len(columns) <= _FIGURES_UNTIL else 2) else 0
    axes.set_xticks(range(len(columns)), columns, rotation=turn, fontsize=size)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _write(axes: Axes, grid: Grid, look: Look) -> None:
    for y, row in enumerate(grid.cells):
        for x, one in enumerate(row):
            if one.text:
                colour = words_on(_colour(one, look))
                axes.text(x, y, one.text, ha="center", va="center", fontsize=7, color=colour)


def _scale(figure: Figure, axes: Axes, part: Matrix, grid: Grid, look: Look) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    both = [*reversed(look.negative), *look.steps[1:]] if part.is_signed else list(look.steps)
    ends = (grid.low, grid.high if grid.high > grid.low else grid.low + 1)
    drawn: Any = ScalarMappable(Normalize(*ends), ListedColormap(both))
    bar = figure.colorbar(drawn, ax=axes, fraction=0.04, pad=0.02, aspect=25)
    ticks = [ends[0], (ends[0] + ends[1]) / 2, ends[1]]
    bar.set_ticks(ticks, labels=[short(float(f"{tick:.3g}")) for tick in ticks], fontsize=7, color=look.muted)
    bar.set_label(cut(part.unit, 40), color=look.text, fontsize=8)
    bar.outline.set_visible(False)


def _colour(cell: GridCell, look: Look) -> str:
    if not cell.side:
        return look.panel
    return (look.steps if cell.side == "q" else look.negative)[cell.step]


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
