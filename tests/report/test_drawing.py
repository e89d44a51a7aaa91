"""Parts as pictures: everything that can be in a part is drawn, and nothing in it breaks the drawing."""

from __future__ import annotations

import io
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import report_example
from PIL import Image

from hf_langcore.errors import InputError, MissingExtraError
from hf_langcore.report.drawing import draw, has_figure, panel_svg, png_of, svg_of
from hf_langcore.report.palette import DARK, LIGHT, Look
from hf_langcore.report.parts import Curves, HeatMap, HeatMaps, Matrix, Part, Points, Spread, Table

LONG = "verylongname" * 17
STRANGE = "复旦 $x_1^2$ \\alpha % # _ <b> عربي \n \x00 🙂"
PARTS: dict[str, Part | HeatMap] = {
    "table": report_example.table(),
    "curves": report_example.dose(),
    "bands": report_example.recovery(),
    "points": report_example.points(),
    "matrix": report_example.removal(),
    "tree": report_example.jaccard(report_example.LANGUAGES[:5]),
    "heat_maps": report_example.heat_maps(2, cells=8),
    "heat_map": report_example.heat_map("w", (192, 192), cells=8),
}


def _pixels(part: Part | HeatMap, theme: Any = "light") -> np.ndarray[Any, Any]:
    with Image.open(io.BytesIO(png_of(part, theme=theme))) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def _rgb(colour: str) -> list[int]:
    return [int(colour[place : place + 2], 16) for place in (1, 3, 5)]


def _count(pixels: np.ndarray[Any, Any], colour: str, near: int = 6) -> int:
    return int((np.abs(pixels - _rgb(colour)).max(-1) <= near).sum())


@pytest.mark.parametrize("name", PARTS)
def test_every_part_in_both_themes(name: str, tmp_path: Path) -> None:
    """A PNG of a sensible size on the theme's background, with the theme's words on it."""
    look: Look
    for theme, look in (("light", LIGHT), ("dark", DARK)):
        draw(PARTS[name], tmp_path / "figure.png", theme=theme)  # type: ignore[arg-type]
        with Image.open(tmp_path / "figure.png") as image:
            assert image.format == "PNG"
            pixels = np.asarray(image.convert("RGB")).astype(int)
        assert 250 < pixels.shape[0] < 3000
        assert 350 < pixels.shape[1] < 2000
        assert np.abs(pixels[0, -1] - _rgb(look.background)).max() <= 2
        assert _count(pixels, look.text, 60) > 20
    if name not in {"matrix", "tree"}:  # on light cells, words are black
        assert _count(pixels, "#000000", 10) == 0, "something is not in the colours of the theme"
    assert (tmp_path / "figure.png").stat().st_size < 100_000


def test_a_picture_is_the_same_every_time() -> None:
    assert png_of(PARTS["bands"]) == png_of(PARTS["bands"])


def test_the_users_settings_neither_matter_nor_change() -> None:
    """Whatever stands in a matplotlibrc."""
    before = png_of(PARTS["bands"])
    with mpl.rc_context({"axes.facecolor": "red", "font.size": 30, "text.usetex": True, "lines.linewidth": 9}):
        assert png_of(PARTS["bands"]) == before
        assert mpl.rcParams["font.size"] == 30


def test_lines_bands_and_level_are_drawn() -> None:
    """In the colours of their places; without them those colours are not there."""
    part = report_example.recovery()
    pixels = _pixels(part)
    assert _count(pixels, LIGHT.series[0]) > 200
    assert _count(pixels, LIGHT.series[1]) > 200
    bare = replace(part, bands={}, level=None)
    assert _count(pixels, "#f5dccc", 8) > 20 + _count(_pixels(bare), "#f5dccc", 8)
    level = replace(bare, level=30.0)
    assert _count(_pixels(level), LIGHT.muted, 30) > 150 + _count(_pixels(bare), LIGHT.muted, 30)


def test_infinite_figures_stand_hollow_at_the_edge() -> None:
    """Above all others; missing ones stand nowhere."""
    x = (0.0, 1.0, 2.0)
    finite = svg_of(Curves("c", "C", "x", "y", x, {"a": (1.0, 2.0, None)}), name="c")
    assert "c:line-0-edge" not in finite
    drawn = svg_of(Curves("c", "C", "x", "y", x, {"a": (1.0, 2.0, math.inf), "b": (1.0, -math.inf, 3.0)}), name="c")
    edge = re.search(r'<g id="c:line-0-edge">.*?<g [^>]*style="([^"]*)">\s*<use [^>]*y="([\d.]+)"', drawn, re.DOTALL)
    assert edge
    points = re.findall(r'<use [^>]*y="([\d.]+)"', drawn[drawn.index('id="c:line-0"') : drawn.index("c:line-1")])
    assert float(edge[2]) < min(map(float, points)), "not above"
    assert len(points) == 2
    assert "fill: var(--background)" in edge[1]
    assert "stroke: var(--s0)" in edge[1]


def test_svg_takes_its_colours_from_the_page_and_loads_nothing() -> None:
    drawn = svg_of(report_example.dose(), name="d")
    assert "http" not in drawn
    assert "<style" not in drawn
    assert "#01" not in drawn, "a place without its variable"
    assert not re.search(r"(fill|stroke): #(?!ffffff)", drawn)
    assert "var(--text)" in drawn
    assert "var(--s9)" in drawn
    ids = re.findall(r'\bid="([^"]*)"', drawn)
    assert len(ids) == len(set(ids))
    assert all(name.startswith("d:") for name in ids)
    assert {name[1:] for name in re.findall(r'href="([^"]*)"', drawn)} <= set(ids)
    assert {f"d:line-{number}" for number in range(30)} <= set(ids)
    assert len(drawn) < 60_000


@pytest.mark.parametrize(
    "part",
    [
        Curves("c", STRANGE, STRANGE, STRANGE, (1.0, 2.0), {STRANGE: (1.0, 2.0), "_hidden": (1.0, 3.0)}),
        Curves("c", LONG, LONG, LONG, (1.0, 2.0), {LONG: (1.0, 2.0)}),
        Curves("c", "", "", "", (), {}),
        Curves("c", "C", "x", "y", (0.0, 1.0), {"a": (None, None)}, "log", "log"),
        Curves("c", "C", "x", "y", (0.0, 1.0), {"a": (math.inf, math.nan)}, "symlog", "log", level=math.inf),
        Curves("c", "C", "x", "y", (1.0,), {"a": (3.0,)}, "log", "log", bands={"a": ((math.nan,), (math.inf,))}),
        Curves("c", "C", "x", "y", (0.0,), {"a": (0.0,)}, "symlog", "log"),
        Curves("c", "C", "x", "y", (1.0, 2.0, 3.0), {"a": (1.0,)}, bands={"a": ((), ())}),
        Curves("c", "C", "x", "y", (1.0, 2.0), {f"l{n}": (1.0, float(n)) for n in range(45)}),
        Curves("c", "C", "x", "y", (-5.0, 1e9), {"a": (-1e12, 1e-12)}, "symlog"),
        Curves("c", "C", "x", "y", (1.0, 2.0), {"a": (12.3, 12.4)}, "linear", "log"),
        Points("p", LONG, (1.0, 2.0), (3.0, 1e9), (STRANGE, "_a"), (LONG, STRANGE), (STRANGE, LONG), STRANGE, LONG),
        Points("p", "", (), (), ()),
        Points("p", "P", (math.nan, math.inf, 1.0), (1.0, 2.0, 1.0), ("a", "b", "c")),
        Points("p", "P", (1.0, 1.0, 1.0), (2.0, 2.0), ("a",), ("", ""), ("one", "two", "three", "four")),
        Points("p", "P", *((tuple(map(float, range(90))),) * 2), *((tuple(map(str, range(90))),) * 2)),
        Points("p", "P", (1.0, 2.0, 3.0, 4.0), (1.0,) * 4, ("a",) * 4, panels=("one", "two", "three", "four")),
        Matrix("m", STRANGE, (STRANGE, LONG), (STRANGE, LONG), ((1.0, None), (math.inf, math.nan)), STRANGE),
        Matrix("m", LONG, (), (), ()),
        Matrix("m", "M", ("a",), ("b",), ((0.5,),), is_signed=True),
        Matrix("m", "M", ("a",), ("b",), ((None,),)),
        Matrix("m", "M", ("a",), ("b",), ((math.inf,),), is_signed=True),
        report_example.jaccard([f"language{n}" for n in range(45)]),
        HeatMaps("h", STRANGE, ()),
        HeatMaps("h", LONG, (HeatMap(LONG, (5, 7), ((0.0,),), (0.0,), (0.0,)),)),
        HeatMaps("h", "H", (HeatMap(STRANGE, (5, 7), ((math.nan, 0.5), (1.0,)), (), (math.inf, 0.5)),)),
        HeatMaps("h", "H", (report_example.heat_map("a", (2000, 900), cells=150), HeatMap("b", (0, 0), (), (), ()))),
        Table(
            "t", LONG, ("a", STRANGE, LONG), ((STRANGE, 1.0, math.inf), (LONG, None, "x")), log_bars=(STRANGE, LONG)
        ),
        Table("t", "T", ("a", "b"), (), log_bars=("b",)),
        Table("t", "T", ("a", "b"), (("x", 0.0), ("y", -1.0), ("z",)), log_bars=("b",)),
        Table(
            "t",
            "T",
            ("a", "b"),
            (("x", Spread(math.nan, 1.0, 2.0)), ("y", Spread(3.0, 0.0, math.inf))),
            log_bars=("b",),
        ),
        Table("t", "T", ("a", "b"), tuple((str(n), float(n + 1)) for n in range(121)), log_bars=("b",)),
    ],
    ids=lambda part: part.kind,
)
def test_nothing_in_a_part_breaks_its_picture(part: Part) -> None:
    """Empty, infinite, missing, long, or in characters that the font lacks: warnings are errors here."""
    pixels = _pixels(part)
    assert max(pixels.shape) < 4500
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 1
    if isinstance(part, Curves):
        assert svg_of(part, name="c").startswith("<svg")
    if isinstance(part, Points):
        assert panel_svg(part, panel="", name="c").startswith("<svg")


def test_heat_maps_show_where_the_region_lies() -> None:
    """One dense column is a dark line over the whole height, with a bar above it."""
    density = tuple(tuple(1.0 if column == 3 else 0.0 for column in range(8)) for _ in range(8))
    part = HeatMap("w", (80, 80), density, (0.125,) * 8, tuple(row for row in density[0]))
    pixels = _pixels(part)
    dark = np.abs(pixels - _rgb(LIGHT.steps[-1])).max(-1) <= 6
    columns = np.flatnonzero(dark.sum(0) > 400)
    assert 50 <= len(columns) <= 60, "an eighth of 440 pixels"
    assert columns[-1] - columns[0] == len(columns) - 1
    bar = np.abs(pixels - _rgb(LIGHT.accent)).max(-1) <= 6
    assert set(np.flatnonzero(bar[:140].sum(0) > 50)) == set(columns)


def test_a_large_model_is_cut_after_whole_layers() -> None:
    large = report_example.heat_maps(12, cells=4)
    assert _pixels(large).shape == _pixels(replace(large, maps=large.maps[:63])).shape


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    """And says what can."""
    for part in (report_example.said(), replace(report_example.table(), log_bars=())):
        assert not has_figure(part)
        with pytest.raises(InputError, match="log_bars"):
            draw(part, tmp_path / "a.png")
    with pytest.raises(InputError, match=r"\.png"):
        draw(report_example.dose(), tmp_path / "a.svg")
    with pytest.raises(InputError, match="'light' or 'dark'"):
        draw(report_example.dose(), tmp_path / "a.png", theme="grey")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_matplotlib_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the name of the extra that brings it."""
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"hf_langcore\[report\]"):
        png_of(report_example.dose())
