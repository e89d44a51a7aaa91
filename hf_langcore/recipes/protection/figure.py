"""The figure: what was learned (x) against what the kept languages lost (y), one curve a method."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_langcore.extras import require
from hf_langcore.files import replace_file
from hf_langcore.recipes.protection.report import Interval, Summary

_MARKS = "osD^vP*X<>hd"  # shapes besides colours, for those who cannot tell the colours apart
_LINEAR_BELOW = 2  # per cent; the axis is logarithmic above and below that
_TICKS = (-50, -20, -10, -5, -2, 0, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)


def draw_protection(curves: Mapping[str, Sequence[Summary]], path: Path, *, title: str) -> None:
    """Draw every method as a point with its intervals; strengths of one method as a curve from the untrained model.

    The axis of what was learned begins left of the first point, so that curves come in from the untrained model.

    Args:
        curves: Name -> points, as `curves_of` gives them.
        path: File to write; its ending (.png, .svg, .pdf) is the format.
        title: Above the figure.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    require("matplotlib", extra="report", feature="Drawing a figure")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6.5), layout="constrained")
    axes = figure.add_subplot()
    for number, (name, points) in enumerate(curves.items()):
        _draw_curve(axes, name, points, number)
    _scale(axes, [point for points in curves.values() for point in points])
    axes.set_xlabel("learned: fall of the loss on the task, nats per token")
    axes.set_ylabel("change of the kept languages' perplexity in per cent (lower is better)")
    axes.set_title(title, fontsize=9, loc="left")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize=7, frameon=False)
    replace_file(path, lambda temporary: figure.savefig(temporary, format=path.suffix[1:], dpi=110))


def _draw_curve(axes: Any, name: str, points: Sequence[Summary], number: int) -> None:
    from matplotlib import colormaps

    colour = colormaps["tab20"]((2 * number + number // 10) % 20)  # the ten dark ones first
    options = {"color": colour, "marker": _MARKS[number % len(_MARKS)], "markersize": 5}
    x, y = [point.gain.mean for point in points], [_percent(point.forgotten.mean) for point in points]
    if len(points) > 1:
        axes.plot([0.0, *x], [0.0, *y], color=options["color"], linewidth=1)
    axes.errorbar(
        x,
        y,
        xerr=_errors([point.gain for point in points], lambda value: value),
        yerr=_errors([point.forgotten for point in points], _percent),
        linestyle="none",
        elinewidth=0.5,
        label=name,
        **options,
    )


def _scale(axes: Any, points: Sequence[Summary]) -> None:
    """Axes as wide as the means; what was lost on a scale on which one per cent and a thousand can be seen."""
    left, right = min(point.gain.mean for point in points), max(point.gain.mean for point in points)
    axes.set_xlim(left - 0.1 * (right - left) - 1e-3, right + 0.1 * (right - left) + 1e-3)
    axes.set_yscale("symlog", linthresh=_LINEAR_BELOW)
    low, high = (_percent(each(point.forgotten.mean for point in points)) for each in (min, max))
    bottom, top = min(2 * low, 0) - 1, 2 * max(high, 1)
    ticks = [tick for tick in _TICKS if bottom < tick < top]
    axes.set_yticks(ticks, [f"{tick:+d}" if tick else "0" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(bottom, top)


def _percent(value: float) -> float:
    return 100 * math.expm1(value)


def _errors(intervals: Sequence[Interval], scale: Any) -> list[list[float]]:
    """Lengths below and above the means; none where there is only one seed."""
    below = [0.0 if math.isnan(one.low) else scale(one.mean) - scale(one.low) for one in intervals]
    above = [0.0 if math.isnan(one.high) else scale(one.high) - scale(one.mean) for one in intervals]
    return [below, above]
