"""The figure of what was learned against what was lost."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from hf_langcore.errors import MissingExtraError
from hf_langcore.recipes.protection import figure as protection_figure
from hf_langcore.recipes.protection.figure import draw_protection
from hf_langcore.recipes.protection.report import Interval, Summary


def point(name: str, gain: float, forgotten: float, width: float = 0.01) -> Summary:
    """A summary at a place, with an interval around it; NaN for none."""
    intervals = [Interval(value, value - width, value + width) for value in (gain, forgotten)]
    return Summary(
        name, 3, *intervals, excess=None, exact_match=None, digit_match=None, trained=1, core_changed=0, core_size=1
    )


CURVES = {
    "plain": [point("slow", 0.1, 0.2), point("fast", 0.2, 0.5)],
    "one seed": [point("one seed", 0.15, 0.1, math.nan)],
}


@pytest.mark.parametrize(("name", "start"), [("f.png", b"\x89PNG"), ("f.svg", b"<?xml")])
def test_a_file_is_written_whole(tmp_path: Path, name: str, start: bytes) -> None:
    """In the format of its ending, with nothing else left in the folder; points without intervals too."""
    draw_protection(CURVES, tmp_path / name, title="A task")
    assert (tmp_path / name).read_bytes().startswith(start)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_every_method_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The legend and the title can be read in the SVG."""
    import matplotlib as mpl

    monkeypatch.setitem(mpl.rcParams, "svg.fonttype", "none")
    draw_protection(CURVES, tmp_path / "f.svg", title="A task")
    text = (tmp_path / "f.svg").read_text(encoding="utf-8")
    assert all(f">{label}<" in text for label in ("plain", "one seed", "A task"))


def test_curves_begin_at_the_untrained_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing learned and nothing lost is the first point of each curve; a single method has no line."""
    lines = []

    class Axes:
        def plot(self, x: list[float], y: list[float], **_: object) -> None:
            lines.append((x, y))

        def errorbar(self, x: list[float], y: list[float], **bars: object) -> None:
            assert len(x) == len(y) == len(bars["yerr"][0])  # type: ignore[index]

    for number, (name, points) in enumerate(CURVES.items()):
        protection_figure._draw_curve(Axes(), name, points, number)
    assert lines == [([0.0, 0.1, 0.2], [0.0, pytest.approx(22.14, abs=0.01), pytest.approx(64.87, abs=0.01)])]


def test_a_missing_matplotlib_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extra that brings it, and no file."""
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match="report"):
        draw_protection(CURVES, tmp_path / "f.png", title="A task")
    assert not list(tmp_path.iterdir())
