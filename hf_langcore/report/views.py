"""What the page's templates fill in, one view for each kind of part."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from hf_langcore.report.canvas import MARKS
from hf_langcore.report.curve_figure import has_infinite
from hf_langcore.report.describing import describe
from hf_langcore.report.drawing import panel_svg, svg_of
from hf_langcore.report.grids import grid_of
from hf_langcore.report.heat_data import pack, share_of
from hf_langcore.report.heat_figure import columns_for, short_names
from hf_langcore.report.numbers import decimals_of, is_number, short, text_of, value_of
from hf_langcore.report.palette import LIGHT
from hf_langcore.report.parts import Cell, Curves, HeatMaps, Matrix, Part, Points, Table, Texts
from hf_langcore.report.point_data import figures_of, groups_of, panels_of
from hf_langcore.report.table_figure import bar_axis, bar_columns

_LONG = 28  # characters from which words are set in a narrow column
_MOST_TITLES = 2500  # cells with a tip when pointed at


@dataclass(frozen=True, slots=True)
class View:
    """A part, ready for the template of its kind.

    Attributes:
        anchor: Id of its element.
        kind: Which template.
        title: Its title.
        note: What a reader has to know.
        alt: The same in words, for those who cannot see.
        values: What the template needs besides.
    """

    anchor: str
    kind: str
    title: str
    note: str
    alt: str
    values: dict[str, Any]


def view_of(part: Part, anchor: str) -> View:
    """The view of a part."""
    if isinstance(part, Table):
        values = table_values(part)
    elif isinstance(part, Curves):
        values = _curves(part, anchor)
    elif isinstance(part, Points):
        values = _points(part, anchor)
    elif isinstance(part, Matrix):
        values = _matrix(part)
    elif isinstance(part, HeatMaps):
        values = _heat_maps(part)
    else:
        values = _texts(part)
    return View(anchor, part.kind, part.title, part.note, describe(part), values)


def table_values(part: Table) -> dict[str, Any]:
    """Rows of cells: words, whether a figure, and the length of the bar in per cent."""
    width = len(part.columns)
    rows = [(*row[:width], *[None] * (width - len(row))) for row in part.rows]
    decimals = [decimals_of(row[number] for row in rows) for number in range(width)]
    bars, axis = set(bar_columns(part)), bar_axis(part)
    numeric = [number for number in range(1, width) if any(is_number(row[number]) for row in rows)]
    return {
        "columns": [(title, number in numeric) for number, title in enumerate(part.columns)],
        "rows": [
            [_cell(cell, decimals[n], axis.share(value_of(cell)) if n in bars else None) for n, cell in enumerate(row)]
            for row in rows
        ],
        "total": part.last_is_total and len(rows) > 1,
        "scale": (short(float(f"{axis.low:.2g}")), short(float(f"{axis.high:.2g}"))) if bars else None,
    }


def _cell(cell: Cell, decimals: int, share: float | None) -> dict[str, Any]:
    text = text_of(cell, decimals)
    value = value_of(cell)
    main, _, ends = text.partition(" (") if is_number(cell) else (text, "", "")
    return {
        "main": main,
        "ends": f"({ends}" if ends else "",
        "numeric": is_number(cell),
        "long": len(text) > _LONG,
        "bar": None if share is None else f"{100 * share:.1f}",
        "infinite": value is not None and abs(value) == float("inf"),
    }


def _curves(part: Curves, anchor: str) -> dict[str, Any]:
    rows = tuple(
        (x, *(line[place] if place < len(line) else None for line in part.lines.values()))
        for place, x in enumerate(part.x)
    )
    titles = (part.x_label, *part.lines)
    return {
        "svg": Markup(svg_of(part, name=anchor)),  # noqa: S704 matplotlib escapes words
        "legend": _legend(part.lines),
        "level": None if part.level is None else text_of(part.level, decimals_of([part.level])),
        "infinite": has_infinite(part),
        "has_bands": bool(part.bands),
        "figures": table_values(Table(part.name, part.title, titles, rows)),
    }


def _legend(names: Iterable[str]) -> list[tuple[int, str, int, int]]:
    return [(number, name, number % len(LIGHT.series), number % len(MARKS)) for number, name in enumerate(names)]


def _points(part: Points, anchor: str) -> dict[str, Any]:
    panels = panels_of(part)
    names = [anchor, *(f"{anchor}:{number}" for number in range(1, len(panels)))]  # ids of each panel keep apart
    drawn = [panel_svg(part, panel=panel, name=name) for panel, name in zip(panels, names, strict=True)]
    return {
        "panels": [(panel, Markup(svg)) for panel, svg in zip(panels, drawn, strict=True)],  # noqa: S704 as above
        "legend": _legend(groups_of(part)),
        "figures": table_values(figures_of(part)),
    }


def _matrix(part: Matrix) -> dict[str, Any]:
    grid = grid_of(part)
    return {
        "grid": grid,
        "cells": list(zip(grid.rows, grid.cells, strict=True)),
        "corner": "" if part.rows == part.columns else part.unit,
        "tips": len(grid.rows) * len(grid.columns) <= _MOST_TITLES,
        "turned": max(map(len, grid.columns), default=0) > 7,  # noqa: PLR2004
        "unit": part.unit,
        "signed": part.is_signed,
        "ends": [short(float(f"{end:.3g}")) for end in (grid.low, grid.high)],
        "unfit": part.tree is not None and grid.tree is None,
    }


def _heat_maps(part: HeatMaps) -> dict[str, Any]:
    names = short_names([one.parameter for one in part.maps])
    shares = [share_of(one) for one in part.maps]
    return {
        "data": Markup(pack(part)),  # noqa: S704 has no character that ends a script
        "tiles": [
            (number, name, one.parameter, one.shape, "" if share is None else f"{100 * share:.2f} %")
            for number, (one, name, share) in enumerate(zip(part.maps, names, shares, strict=True))
        ],
        "columns": columns_for(part.maps),
    }


def _texts(part: Texts) -> dict[str, Any]:
    return {
        "prompt": part.prompt,
        "cards": [(name, text, part.figures.get(name, "")) for name, text in part.texts.items()],
    }
