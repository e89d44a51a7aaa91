"""Lines over one axis."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_langcore.report.canvas import MARKS, cut, dress, new_figure, words
from hf_langcore.report.numbers import finite, log_ticks, short
from hf_langcore.report.palette import Look
from hf_langcore.report.parts import Curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GAP, _CHARACTER = 0.025, 0.019  # between ticks and of a character on one, as shares of the axis
_MARGIN = 0.04  # left and right of the first and last position, as a share of the axis
_LARGE = 10.5
_STYLES = ("-", "--", ":", "-.")


@dataclass(frozen=True, slots=True)
class _Heights:
    """The upright axis: its ends, and where infinite figures stand."""

    is_log: bool
    low: float
    high: float
    above: float
    below: float


def curves_figure(part: Curves, look: Look, *, bare: bool) -> Figure:
    """Draw the lines; infinite figures stand at the edge, hollow.

    Args:
        part: What to draw.
        look: Colours.
        bare: Without title and legend, for the page, which has them in words.
    """
    columns = 5 if len(part.lines) > 12 else 3  # noqa: PLR2004
    legend = 0.0 if bare else 0.35 + 0.19 * math.ceil(len(part.lines) / columns)
    figure = new_figure(5.3 if bare else 7.2, (3.6 if bare else 4.2) + legend, look)
    axes = figure.add_subplot()
    heights = _heights(part)
    for number, label in enumerate(part.lines):
        _draw_line(axes, part, label, number, heights, look)
    if part.level is not None and _fits(part.level, heights):
        axes.axhline(part.level, color=look.muted, linewidth=1.2, linestyle=(0, (5, 3)), zorder=1.5)
    _upright(axes, heights)
    _across(axes, part)
    axes.set_xlabel(words(part.x_label, width=52))
    axes.set_ylabel(words(part.y_label, width=36))
    dress(axes, look)
    if bare:  # seen on phones, too
        axes.tick_params(labelsize=_LARGE)
        axes.xaxis.label.set_fontsize(_LARGE)
        axes.yaxis.label.set_fontsize(_LARGE)
    if not bare:
        axes.set_title(words(part.title, width=84), fontsize=10, loc="left", color=look.text)
        if part.lines:
            figure.legend(loc="outside lower center", ncols=columns, fontsize=7.5, frameon=False, labelcolor=look.text)
    return figure


def has_infinite(part: Curves) -> bool:
    """Whether a figure stands at the edge."""
    return any(value is not None and math.isinf(value) for line in part.lines.values() for value in line)


def _fits(value: float, heights: _Heights) -> bool:
    return math.isfinite(value) and (value > 0 or not heights.is_log)


def _heights(part: Curves) -> _Heights:
    known = finite([*(value for line in part.lines.values() for value in line), part.level])
    is_log = part.y_scale == "log" and any(value > 0 for value in known)
    known = [value for value in known if value > 0 or not is_log] or [0.0, 1.0]
    low, high = min(known), max(known)
    if is_log:
        factor = max((high / low) ** 0.12, 1.3)
        ends = (low / factor**0.5, high * factor**0.5, high * factor, low / factor)
    else:
        room = 0.12 * (high - low) or 0.12 * (abs(high) or 1.0)
        ends = (low - room / 2, high + room / 2, high + room, low - room)
    bottom, top, above, below = ends
    spread = [value for line in part.lines.values() for value in line if value is not None]
    if math.inf in spread:
        top = above * (above / high) ** 0.5 if is_log else above + (above - high) / 2
    if -math.inf in spread and not is_log:
        bottom = below - (low - below) / 2
    return _Heights(is_log, bottom, top, above, below)


def _draw_line(axes: Axes, part: Curves, label: str, number: int, heights: _Heights, look: Look) -> None:
    colour, shape = look.series[number % len(look.series)], MARKS[number % len(MARKS)]
    points = list(zip(part.x, part.lines[label], strict=False))
    options: dict[str, Any] = {"color": colour}
    gid = f"line-{number}"  # by which the page finds a line
    line = [_height(value, heights) for _, value in points]
    style = _STYLES[number // 40 % len(_STYLES)]
    mark: dict[str, Any] = {"marker": shape, "markersize": 5, "markeredgewidth": 1.1, "markeredgecolor": colour}
    known = [place for place, (_, value) in enumerate(points) if value is not None and math.isfinite(value)]
    name = cut(label, 28).lstrip("_") or " "  # matplotlib leaves labels with an underscore out
    axes.plot(
        [x for x, _ in points],
        line,
        linestyle=style,
        linewidth=1.4,
        label=name,
        markevery=known,
        gid=gid,
        **mark,
        **options,
    )
    hollow = [(x, _height(value, heights)) for x, value in points if value is not None and math.isinf(value)]
    if hollow:
        hole = {**mark, "markerfacecolor": look.background, "markersize": 6}
        axes.plot(
            [x for x, _ in hollow],
            [y for _, y in hollow],
            linestyle="none",
            zorder=3,
            gid=f"{gid}-edge",
            **hole,
            **options,
        )
    if label in part.bands:
        low, high = ([_height(value, heights) for value in ends] for ends in part.bands[label])
        count = min(len(part.x), len(low), len(high))
        axes.fill_between(
            part.x[:count], low[:count], high[:count], alpha=0.18, linewidth=0, gid=f"{gid}-band", **options
        )


def _height(value: float | None, heights: _Heights) -> float:
    """Where a figure stands on the upright axis; NaN for nowhere."""
    if value is None or math.isnan(value) or (heights.is_log and value <= 0):
        return math.nan
    if math.isinf(value):
        return heights.above if value > 0 else heights.below
    return value


def _upright(axes: Axes, heights: _Heights) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    if heights.is_log:
        axes.set_yscale("log")
        ticks = log_ticks(heights.low, heights.high)
        axes.set_yticks(ticks, [short(tick) for tick in ticks])
        axes.minorticks_off()
    else:
        axes.yaxis.set_major_locator(MaxNLocator(7))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(float(f"{value:.6g}"))))
    axes.set_ylim(heights.low, heights.high)


def _across(axes: Axes, part: Curves) -> None:
    """The level axis, with ticks where something was measured; as many as there is room for."""
    places = sorted(set(finite(part.x)))
    if not places:
        axes.set_xticks([])
        return
    smallest = min((abs(x) for x in places if x), default=1.0)
    scale = part.x_scale
    if scale == "log" and places[0] <= 0:
        scale = "symlog"
    if scale == "symlog":
        axes.set_xscale("symlog", linthresh=smallest, linscale=0.5)
    elif scale == "log":
        axes.set_xscale("log")
    _ticks_at(axes, places)


def _ticks_at(axes: Axes, places: list[float]) -> None:
    transform = axes.xaxis.get_transform()
    at = [float(transform.transform(place)) for place in places]
    room = at[-1] - at[0] or 1.0
    names = [short(place) for place in places]
    kept = [0]
    for number in range(1, len(places)):
        wide = (len(names[number]) + len(names[kept[-1]])) / 2
        if at[number] - at[kept[-1]] >= (_GAP + _CHARACTER * wide) * room:
            kept.append(number)
    axes.set_xticks([places[number] for number in kept], [names[number] for number in kept])
    axes.minorticks_off()
    back = transform.inverted()
    axes.set_xlim(float(back.transform(at[0] - _MARGIN * room)), float(back.transform(at[-1] + _MARGIN * room)))
