"""Points in a plane, by group and label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hf_langcore.report.canvas import MARKS, cut, dress, new_figure, words
from hf_langcore.report.palette import Look
from hf_langcore.report.parts import Points
from hf_langcore.report.point_data import Point, groups_of, panels_of, points_of, written

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROOM = 0.06  # around the points, as a share of their extent
_LONGEST = 18  # characters of a label in the picture
_MOST_ACROSS = 3  # panels beside each other
_FEW = 80  # points from which marks are small
_LARGE = 10.5


def points_figure(part: Points, look: Look) -> Figure:
    """Draw all panels, with title and legend."""
    panels, groups = panels_of(part), groups_of(part)
    across = min(len(panels), _MOST_ACROSS)
    down = math.ceil(len(panels) / across)
    columns = 6 if across > 1 else 4
    legend = 0.3 + 0.19 * math.ceil(len(groups) / columns)
    figure = new_figure(max(4.6 * across, 6.4), 4.3 * down + legend, look)
    places = figure.subplots(down, across, squeeze=False).ravel()
    for axes, panel in zip(places, panels, strict=False):
        _draw(axes, part, panel, look, size=6.5)
        if len(panels) > 1:
            axes.set_title(words(panel, width=50), fontsize=9, color=look.text)
    for axes in places[len(panels) :]:
        axes.set_axis_off()
    width = int(11 * max(4.6 * across, 6.4))
    figure.suptitle(words(part.title, width=width), fontsize=10, x=0.01, ha="left", color=look.text)
    lines, names = places[0].get_legend_handles_labels()
    if any(groups):
        where = "outside lower center"
        figure.legend(lines, names, loc=where, ncols=columns, fontsize=7.5, frameon=False, labelcolor=look.text)
    return figure


def panel_figure(part: Points, look: Look, *, panel: str) -> Figure:
    """Draw one panel without title and legend, for the page, which has them in words."""
    figure = new_figure(5.3, 4.6, look)
    axes = figure.add_subplot()
    _draw(axes, part, panel, look, size=8.0)
    axes.tick_params(labelsize=_LARGE)  # seen on phones, too
    axes.xaxis.label.set_fontsize(_LARGE)
    axes.yaxis.label.set_fontsize(_LARGE)
    return figure


def _draw(axes: Axes, part: Points, panel: str, look: Look, *, size: float) -> None:
    points = points_of(part)
    here = [one for one in points if one.panel == panel]
    mark = 5.0 if len(here) < _FEW else 4.2
    for number, group in enumerate(groups_of(part)):
        own = [one for one in here if one.group == group]
        axes.plot(
            [one.x for one in own],
            [one.y for one in own],
            linestyle="none",
            marker=MARKS[number % len(MARKS)],
            markersize=mark,
            markeredgewidth=0,
            color=look.series[number % len(look.series)],
            label=cut(group, 28).lstrip("_") or " ",  # matplotlib leaves labels with an underscore out
            gid=f"line-{number}",  # by which the page finds a group
        )
    _write(axes, here, look, size=size)
    _frame(axes, part, points)
    dress(axes, look, grid=bool(part.x_label or part.y_label))


def _write(axes: Axes, points: Sequence[Point], look: Look, *, size: float) -> None:
    behind = {"facecolor": look.background, "edgecolor": "none", "alpha": 0.7, "pad": 0.6}
    for label, x, y in written(points):
        axes.annotate(
            cut(label, _LONGEST),
            (x, y),
            (0, 3),
            textcoords="offset points",
            fontsize=size,
            color=look.text,
            ha="center",
            va="bottom",
            bbox=behind,
            zorder=3,
        )


def _frame(axes: Axes, part: Points, points: Sequence[Point]) -> None:
    """The same ends in all panels; no ticks where places have no meaning of their own."""
    ends = [_ends([one.x for one in points]), _ends([one.y for one in points])]
    axes.set_xlim(*ends[0])
    axes.set_ylim(*ends[1])
    axes.set_xlabel(words(part.x_label, width=52))
    axes.set_ylabel(words(part.y_label, width=36))
    if not part.x_label:
        axes.set_xticks([])
    if not part.y_label:
        axes.set_yticks([])


def _ends(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = _ROOM * (high - low) or abs(low) or 1.0
    return low - room, high + room
