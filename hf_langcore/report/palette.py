"""Colours for light and for dark, with contrasts that can be read; the page's style sheet and the figures share them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

STEPS = 21  # colours of a heat map, from none to most; of a signed one on each side of zero
_BLACK, _WHITE = "#000000", "#ffffff"
_EVEN = 0.179  # luminance on which black and white are read equally well, at 4.6 : 1
_DARK = 0.04045  # channels up to here are linear
_CHANNELS = (0.2126, 0.7152, 0.0722)


@dataclass(frozen=True, slots=True)
class Look:
    """Colours of one theme, each as "#rrggbb".

    Attributes:
        background: Of the page.
        panel: Of boxes on it.
        text: Of words.
        muted: Of less important words; still 4.5 : 1 on both backgrounds.
        rule: Of lines between things and of grids.
        accent: Of links and bars.
        series: Of the lines of a figure; 3 : 1 on the background.
        steps: Of heat maps, from none to most.
        negative: Of what lies below zero, from none to most.
    """

    background: str
    panel: str
    text: str
    muted: str
    rule: str
    accent: str
    series: tuple[str, ...]
    steps: tuple[str, ...]
    negative: tuple[str, ...]

    def variables(self) -> dict[str, str]:
        """The same for a style sheet, with the colour of words on each step."""
        names = ("background", "panel", "text", "muted", "rule", "accent")
        values = {name: getattr(self, name) for name in names}
        values |= {f"s{number}": colour for number, colour in enumerate(self.series)}
        for letter, colours in (("q", self.steps), ("n", self.negative)):
            values |= {f"{letter}{number}": colour for number, colour in enumerate(colours)}
            values |= {f"{letter}t{number}": words_on(colour) for number, colour in enumerate(colours)}
        return values


def luminance(colour: str) -> float:
    """Relative luminance, as the rules for accessible pages define it."""
    channels = (value / 255 for value in _rgb(colour))
    linear = [one / 12.92 if one <= _DARK else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
    return sum(weight * one for weight, one in zip(_CHANNELS, linear, strict=True))


def contrast(one: str, other: str) -> float:
    """From 1 (the same) to 21 (black on white)."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def words_on(colour: str) -> str:
    """Black or white, whichever is read better."""
    return _BLACK if luminance(colour) > _EVEN else _WHITE


def blend(stops: Sequence[str], count: int) -> tuple[str, ...]:
    """So many colours along the stops, at equal distances."""
    found = []
    for number in range(count):
        place = number * (len(stops) - 1) / (count - 1)
        left = min(int(place), len(stops) - 2)
        pair = zip(_rgb(stops[left]), _rgb(stops[left + 1]), strict=True)
        found.append("#" + "".join(f"{round(a + (b - a) * (place - left)):02x}" for a, b in pair))
    return tuple(found)


def step_of(value: float, low: float, high: float) -> int:
    """The colour of a figure between `low` and `high`; beyond them, the last on that side."""
    if math.isinf(value):
        return STEPS - 1 if value > 0 else 0
    share = (value - low) / (high - low) if high > low else 0.0
    return round(min(max(share, 0.0), 1.0) * (STEPS - 1))


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


LIGHT = Look(
    background="#ffffff",
    panel="#f5f7fa",
    text="#1b2330",
    muted="#566070",
    rule="#d5dbe3",
    accent="#0b5cad",
    series=(
        "#1f6fb4",
        "#c85200",
        "#23803a",
        "#c32f2a",
        "#7a50ad",
        "#85524a",
        "#be3d8b",
        "#5f6b76",
        "#7d6f00",
        "#0b7f8d",
    ),
    steps=blend(("#f3f6fa", "#bfd7ed", "#62a8d5", "#1f6cb0", "#082f69"), STEPS),
    negative=blend(("#f3f6fa", "#fdd0a2", "#e4711d", "#8c2d04"), STEPS),
)

DARK = Look(
    background="#12161c",
    panel="#1b2129",
    text="#e6eaf0",
    muted="#a5afbc",
    rule="#38424f",
    accent="#6cb2ff",
    series=(
        "#6cb2ff",
        "#ffa05c",
        "#6fd184",
        "#ff8a80",
        "#c3a1f2",
        "#d3a08f",
        "#f59acb",
        "#b4bec9",
        "#d9cb4a",
        "#4fd3e0",
    ),
    steps=blend(("#1a212b", "#1d3f66", "#2f6cab", "#7bb6ea", "#e8f4ff"), STEPS),
    negative=blend(("#1a212b", "#5c3414", "#c4671d", "#ffd7ab"), STEPS),
)

THEMES: dict[str, Look] = {"light": LIGHT, "dark": DARK}


def _places() -> tuple[Look, dict[str, str]]:
    """A look whose every colour stands for one of the style sheet's variables, and which for which."""
    names = [name for name in LIGHT.variables() if "t" not in name[:-1] or name in {"text", "muted"}]
    places = {name: f"#01{number // 256:02x}{number % 256:02x}" for number, name in enumerate(names)}

    def many(letter: str, count: int) -> tuple[str, ...]:
        return tuple(places[f"{letter}{number}"] for number in range(count))

    plain: dict[str, Any] = {name: places[name] for name in ("background", "panel", "text", "muted", "rule", "accent")}
    look = Look(**plain, series=many("s", len(LIGHT.series)), steps=many("q", STEPS), negative=many("n", STEPS))
    return look, {colour: f"var(--{name})" for name, colour in places.items()}


PLACES, VARIABLES = _places()
"""For drawings in the page: drawn in `PLACES`, whose colours are then replaced by `VARIABLES`."""
