"""Parts of a report as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hf_langcore.errors import InputError
from hf_langcore.files import replace_file
from hf_langcore.report.canvas import ALL_COLOURS, SHADES, settings, to_png, to_svg
from hf_langcore.report.curve_figure import curves_figure
from hf_langcore.report.heat_figure import heat_figure
from hf_langcore.report.matrix_figure import matrix_figure
from hf_langcore.report.palette import PLACES, THEMES, Look
from hf_langcore.report.parts import Curves, HeatMap, HeatMaps, Matrix, Part, Points, Table
from hf_langcore.report.points_figure import panel_figure, points_figure
from hf_langcore.report.table_figure import bar_columns, table_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Theme = Literal["light", "dark"]


def has_figure(part: Part | HeatMap) -> bool:
    """Whether a part can be drawn: texts and tables without `log_bars` are words."""
    if isinstance(part, Table):
        return bool(bar_columns(part))
    return isinstance(part, (Curves, Points, Matrix, HeatMaps, HeatMap))


def draw(part: Part | HeatMap, path: str | Path, *, theme: Theme = "light") -> None:
    """Draw a part into a PNG file.

    Args:
        part: Curves, points, a matrix, heat maps, one heat map, or a table with `log_bars`.
        path: File to write; its name ends in .png.
        theme: "light" or "dark".

    Raises:
        InputError: The part cannot be drawn, the ending is another or there is no such theme.
        MissingExtraError: matplotlib is not installed.
    """
    target = Path(path)
    if target.suffix.lower() != ".png":
        raise InputError(f"A figure of a report is written as .png, got {target.name!r}. Name such a file.")
    picture = png_of(part, theme=theme)
    replace_file(target, lambda temporary: temporary.write_bytes(picture))


def png_of(part: Part | HeatMap, *, theme: Theme = "light") -> bytes:
    """The bytes of that file.

    Raises:
        InputError: The part cannot be drawn, or there is no such theme.
        MissingExtraError: matplotlib is not installed.
    """
    if theme not in THEMES:
        raise InputError(f"theme is {' or '.join(map(repr, THEMES))}, got {theme!r}.")
    if not has_figure(part):
        raise InputError(
            f"There is nothing to draw in {type(part).__name__} {getattr(part, 'name', '')!r}: texts, and tables without "
            "log_bars, are words. Draw curves, points, a matrix, heat maps or a table with log_bars."
        )
    with settings():
        return to_png(_figure(part, THEMES[theme]), colours=SHADES if isinstance(part, Matrix) else ALL_COLOURS)


def svg_of(part: Curves, *, name: str) -> str:
    """Curves for a page whose style sheet has the variables of `hf_langcore.report.palette`."""
    with settings():
        return to_svg(curves_figure(part, PLACES, bare=True), name=name)


def panel_svg(part: Points, *, panel: str, name: str) -> str:
    """One panel of points, as `svg_of`."""
    with settings():
        return to_svg(panel_figure(part, PLACES, panel=panel), name=name)


def _figure(part: Part | HeatMap, look: Look) -> Figure:
    if isinstance(part, Curves):
        return curves_figure(part, look, bare=False)
    if isinstance(part, Points):
        return points_figure(part, look)
    if isinstance(part, Matrix):
        return matrix_figure(part, look)
    if isinstance(part, Table):
        return table_figure(part, look)
    if isinstance(part, (HeatMaps, HeatMap)):
        return heat_figure(part, look)
    raise AssertionError(f"has_figure lets {type(part)} pass")
