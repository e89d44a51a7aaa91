"""The picture of points: colour and shape by group, words for labels, the same axes in all panels."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import report_example
from matplotlib.figure import Figure

from hf_langcore.report.drawing import panel_svg
from hf_langcore.report.palette import LIGHT
from hf_langcore.report.parts import Points
from hf_langcore.report.points_figure import panel_figure, points_figure

PART = report_example.points()


@pytest.fixture(scope="module")
def figure() -> Figure:
    return points_figure(PART, LIGHT)


def test_colour_and_shape_by_group(figure: Figure) -> None:
    """The same in every panel, and no two groups of forty share both."""
    looks = [
        [(line.get_label(), line.get_color(), line.get_marker()) for line in axes.get_lines()] for axes in figure.axes
    ]
    assert looks[0] == looks[1]
    assert [name for name, _, _ in looks[0]] == list(report_example.LANGUAGES[:6])
    line = tuple(map(float, range(40)))
    many = panel_figure(Points("p", "P", line, line, tuple(map(str, range(40)))), LIGHT, panel="")
    assert len({(one.get_color(), one.get_marker()) for one in many.axes[0].get_lines()}) == 40


def test_every_point_stands_in_its_panel(figure: Figure) -> None:
    drawn = {
        (axes.get_title(), line.get_label(), *place)
        for axes in figure.axes
        for line in axes.get_lines()
        for place in zip(line.get_xdata(), line.get_ydata(), strict=True)
    }
    assert drawn == set(zip(PART.panels, PART.groups, PART.x, PART.y, strict=True))


def test_panels_have_the_same_ends_with_room(figure: Figure) -> None:
    """And no ticks where the axes have no names."""
    before, after = figure.axes
    assert before.get_xlim() == after.get_xlim()
    assert before.get_ylim() == after.get_ylim()
    low, high = before.get_xlim()
    assert low < min(PART.x) < max(PART.x) < high
    assert list(before.get_xticks()) == []
    named = points_figure(replace(PART, x_label="hertz"), LIGHT)
    assert len(named.axes[0].get_xticks()) > 1
    assert list(named.axes[0].get_yticks()) == []
    assert named.axes[0].get_xlabel() == "hertz"


def test_labels_are_written(figure: Figure) -> None:
    assert [text.get_text() for text in figure.axes[1].texts] == list(dict.fromkeys(PART.labels))
    assert not points_figure(replace(PART, labels=()), LIGHT).axes[0].texts


def test_seven_panels_in_rows_of_three() -> None:
    places = tuple(map(float, range(7)))
    figure = points_figure(Points("p", "P", places, places, ("a",) * 7, panels=tuple("abcdefg")), LIGHT)
    assert [axes.get_title() for axes in figure.axes] == [*"abcdefg", "", ""]
    assert [axes.axison for axes in figure.axes] == [True] * 7 + [False] * 2


def test_a_panel_for_the_page() -> None:
    """Colours are the page's, ids are the panel's, and hundreds of points stay small."""
    drawn = panel_svg(PART, panel="after", name="s:1")
    assert "http" not in drawn
    assert not re.search(r"(fill|stroke): #(?!ffffff)", drawn)
    assert {f"s:1:line-{number}" for number in range(6)} <= set(re.findall(r'\bid="([^"]*)"', drawn))
    assert len(re.findall("<use [^>]*x=", drawn)) == 30
    draws = tuple(float(number * 37 % 101) for number in range(400))
    big = Points("p", "P", draws, draws[::-1], tuple(str(number % 16) for number in range(400)))
    assert len(panel_svg(big, panel="", name="s")) < 45_000
