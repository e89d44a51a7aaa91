"""matplotlib, set up so that a figure looks the same everywhere and any words can stand in it."""

from __future__ import annotations

import functools
import io
import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hf_langcore.extras import require
from hf_langcore.report.palette import VARIABLES, Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKS = "osD^vP*X"  # shapes besides colours, for those who cannot tell the colours apart
PNG_DPI = 100
ALL_COLOURS, SHADES = 256, 32  # of a picture; shades of a few hues make smaller files
_MISSING = "\u25a1"
_SETTINGS: dict[str, Any] = {
    "text.usetex": False,
    "text.parse_math": False,  # names and titles are not ours: a dollar sign is a dollar sign
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 9.0,
    "axes.unicode_minus": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "hf_langcore",
    "path.simplify": False,
}


@contextmanager
def settings() -> Iterator[None]:
    """Whatever the user has set in matplotlib does not change our figures, and ours not the user's."""
    require("matplotlib", extra="report", feature="Drawing a report")
    from matplotlib import rc_context

    with rc_context(_SETTINGS):
        yield


def new_figure(width: float, height: float, look: Look) -> Figure:
    """An empty figure, sizes in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", facecolor=look.background)


def dress(axes: Axes, look: Look, *, grid: bool = True) -> None:
    """The look's colours for everything but the data."""
    axes.set_facecolor("none")
    axes.tick_params(colors=look.muted, which="both")
    for spine in axes.spines.values():
        spine.set_color(look.rule)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(look.text)
    if grid:
        axes.grid(visible=True, color=look.rule, linewidth=0.6)
        axes.set_axisbelow(True)


def words(text: str, *, width: int = 60, lines: int = 2) -> str:
    """Words that the font can draw, broken into lines; what does not fit is cut off, what it lacks is a box."""
    known = _characters()
    plain = " ".join(str(text).split())
    drawn = "".join(one if ord(one) in known else _MISSING for one in plain)
    return "\n".join(textwrap.wrap(drawn, width, max_lines=lines, placeholder=" \u2026"))


def cut(text: str, most: int) -> str:
    """One line of at most so many characters."""
    line = words(text, width=10_000, lines=1)
    return line if len(line) <= most else line[: most - 1] + "\u2026"


def to_png(figure: Figure, *, colours: int = ALL_COLOURS) -> bytes:
    """The figure as a small PNG: few colours, packed tightly."""
    from PIL import Image

    raw = io.BytesIO()
    figure.savefig(raw, format="png", dpi=PNG_DPI, facecolor=figure.get_facecolor())
    with Image.open(raw) as image:
        few = image.convert("RGB").quantize(colours, dither=Image.Dither.NONE)
    packed = io.BytesIO()
    few.save(packed, format="PNG", optimize=True)
    return packed.getvalue()


def to_svg(figure: Figure, *, name: str) -> str:
    """The figure, drawn in `palette.PLACES`, as SVG inside a page: the colours are the style sheet's.

    Args:
        figure: The figure.
        name: Goes before every id in it, so that several figures in one page keep apart.
    """
    raw = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(raw, format="svg", metadata=nothing, transparent=True)
    text = raw.getvalue()
    text = text[text.index("<svg") :]
    for pattern, new in (
        (r"<!--.*?-->", ""),
        (r"<metadata>.*?</metadata>", ""),
        (r"<style[^>]*>.*?</style>", ""),  # would speak of the whole page
        (r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true" focusable="false">'),
        (r"xlink:href=", "href="),
        (r"font: ([\d.]+px)[^;\"]*", r"font-size: \1"),
        (r'(\bid="|href="#|url\(#)', rf"\g<1>{name}:"),
        (r"\s*\n\s*", "\n"),
    ):
        text = re.sub(pattern, new, text, flags=re.DOTALL)
    text = re.sub(r'\b(d|x|y|points|transform)="([^"]*)"', _rounded, text)
    text = re.sub(r'(<g clip-path="[^"]*")>\n((?:<use [^>]*/>\n)+)</g>', _together, text)
    return re.sub("#01[0-9a-f]{4}", lambda found: VARIABLES.get(found[0], found[0]), text).strip()


def _together(found: re.Match[str]) -> str:
    """Marks of one line: what all of them say alike is said once."""
    styles = set(re.findall(r' style="[^"]*"', found[2]))
    if len(styles) != 1:
        return found[0]
    (style,) = styles
    return f"{found[1]}{style}>\n{found[2].replace(style, '')}</g>"


def _rounded(found: re.Match[str]) -> str:
    short = re.sub(r"(\.\d\d)\d+", r"\1", found[2])
    return f'{found[1]}="{short}"'


@functools.cache
def _characters() -> frozenset[int]:
    """What the font can draw."""
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())
