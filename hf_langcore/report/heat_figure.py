"""Where a region lies in weight matrices: tiles with the profiles of rows and columns at their sides."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_langcore.report.canvas import PNG_DPI, cut, words
from hf_langcore.report.palette import STEPS, Look
from hf_langcore.report.parts import HeatMap, HeatMaps

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Pixels = NDArray[np.float64]

MOST_TILES = 64
_GAP, _WORDS, _HEAD = 12, 16, 52  # pixels between tiles, above each, and above all
_ONE, _FEW, _MANY = 440, 150, 104  # pixels of a tile's side
_FEW_TILES = 12


@dataclass(frozen=True, slots=True)
class Shown:
    """Which matrices a picture shows.

    Attributes:
        maps: These, in the model's order.
        names: Their names, as short as they can be told apart.
        columns: So many side by side.
    """

    maps: tuple[HeatMap, ...]
    names: tuple[str, ...]
    columns: int


def short_names(names: Sequence[str]) -> tuple[str, ...]:
    """Without the parts at the beginning and the end that all share."""
    parts = [name.split(".") for name in names]
    if len(parts) > 1:
        while len({tuple(one[:1]) for one in parts}) == 1 and all(len(one) > 1 for one in parts):
            parts = [one[1:] for one in parts]
        while len({tuple(one[-1:]) for one in parts}) == 1 and all(len(one) > 1 for one in parts):
            parts = [one[:-1] for one in parts]
    return tuple(".".join(one) for one in parts)


def role_of(name: str) -> str:
    """A name without its numbers: the same in every layer."""
    return re.sub(r"\d+", "", name)


def columns_for(maps: Sequence[HeatMap]) -> int:
    """As many as a layer has matrices, where all layers have the same; otherwise what makes a square."""
    roles = [role_of(one.parameter) for one in maps]
    kinds = len(set(roles))
    square = max(1, math.ceil(math.sqrt(len(maps))))
    return kinds if 1 < kinds <= 12 and roles == roles[:kinds] * (len(roles) // kinds) else square  # noqa: PLR2004


def strongest(maps: Sequence[HeatMap]) -> float:
    """The largest share of any cell: the figure of the last colour."""
    known = [value for one in maps for row in one.density for value in row if math.isfinite(value)]
    return max(known, default=0.0)


def as_array(density: Sequence[Sequence[float]]) -> Pixels:
    """A grid of shares; rows of unequal length are filled up, what is no figure is 0."""
    width = max(map(len, density), default=0)
    rows = [[*row, *[0.0] * (width - len(row))] for row in density]
    grid = np.asarray(rows, dtype=float).reshape(len(rows), width) if width else np.zeros((1, 1))
    return np.clip(np.nan_to_num(grid, nan=0.0, posinf=0.0, neginf=0.0), 0.0, 1.0)


def heat_figure(part: HeatMaps | HeatMap, look: Look) -> Figure:
    """Draw all matrices of a model, or one large; the colour is the root of the share, so that little is seen, too."""
    from matplotlib.figure import Figure

    shown = _shown(part)
    top = strongest(shown.maps)
    side = _ONE if len(shown.maps) == 1 else _FEW if len(shown.maps) <= _FEW_TILES else _MANY
    step = (side + side // 6 + _GAP, side + side // 6 + _GAP + _WORDS)
    rows = math.ceil(len(shown.maps) / shown.columns)
    size = (max(shown.columns * step[0] + _GAP, 380), max(rows, 1) * step[1] + _HEAD + _GAP)
    figure = Figure(figsize=(size[0] / PNG_DPI, size[1] / PNG_DPI), facecolor=look.background)
    axes: Any = figure.add_axes((0, 0, 1, 1))
    picture = np.broadcast_to(_rgb(look.background), (size[1], size[0], 3)).copy()
    for number, (one, name) in enumerate(zip(shown.maps, shown.names, strict=True)):
        x, y = _GAP + number % shown.columns * step[0], _HEAD + number // shown.columns * step[1] + _WORDS
        tile = _tile(one, top, side, look)
        picture[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
        label = cut(name, max(6, tile.shape[1] // 6))
        axes.text(x, y - 4, label, fontsize=6.5 if side < _ONE else 8, color=look.text, va="bottom")
    axes.imshow(picture, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    title = part.title if isinstance(part, HeatMaps) else part.parameter
    head = words(title, width=size[0] // 7, lines=1)
    axes.text(_GAP, 20, head, fontsize=10, color=look.text, va="center")
    axes.text(_GAP, 38, _legend(part, shown, top), fontsize=7, color=look.muted, va="center")
    return figure


def _legend(part: HeatMaps | HeatMap, shown: Shown, top: float) -> str:
    left = f" of {len(part.maps)}" if isinstance(part, HeatMaps) and len(part.maps) > len(shown.maps) else ""
    return f"{len(shown.maps)}{left} matrices; colour: share in the region, 0 to {100 * top:.3g} %, root scale"


def _shown(part: HeatMaps | HeatMap) -> Shown:
    maps = (part,) if isinstance(part, HeatMap) else part.maps
    if len(maps) > MOST_TILES:  # the model's first layers, whole
        columns = columns_for(maps)
        maps = maps[: MOST_TILES // columns * columns or MOST_TILES]
    return Shown(tuple(maps), short_names([one.parameter for one in maps]), columns_for(maps))


def _tile(one: HeatMap, top: float, side: int, look: Look) -> Pixels:
    """The grid, the columns' profile above it and the rows' at its right, as pixels."""
    colours = np.array([_rgb(colour) for colour in look.steps])
    strip = side // 6
    tile = np.broadcast_to(_rgb(look.background), (side + strip, side + strip, 3)).copy()
    share = np.sqrt(as_array(one.density) / top) if top > 0 else as_array(one.density) * 0
    tile[strip:, :side] = colours[_stretched(_stretched(np.rint(share * (STEPS - 1)), side).T, side).T.astype(int)]
    columns, rows = _bars(one.column_profile, side, strip - 3), _bars(one.row_profile, side, strip - 3)
    tile[1 : strip - 2, :side][np.flipud(columns.T)] = _rgb(look.accent)
    tile[strip:, side + 2 : side + strip - 1][rows] = _rgb(look.accent)
    return tile


def _bars(profile: Sequence[float], side: int, height: int) -> NDArray[np.bool_]:
    """One row of pixels for each place along the side: how far the bar reaches."""
    values = as_array([list(profile)])[0]
    most = float(values.max())
    lengths = _stretched(values / most if most > 0 else values, side) * height
    return np.asarray(np.arange(height)[None, :] < lengths[:, None])


def _stretched(values: Pixels, size: int) -> Pixels:
    """As many as `size` along the first axis: repeated where there are fewer, the largest of each few where more."""
    if len(values) <= size:
        return values[np.arange(size) * len(values) // size]
    return np.asarray(np.maximum.reduceat(values, np.arange(size) * len(values) // size, axis=0))


def _rgb(colour: str) -> Pixels:
    return np.array([int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)])
