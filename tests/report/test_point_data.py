"""Points by panel and group, and how they lie."""

from __future__ import annotations

import math

import pytest
import report_example

from hf_langcore.report.parts import Points
from hf_langcore.report.point_data import figures_of, groups_of, neighbours, panels_of, points_of, written

# Two pairs: the near ones share a label in the first pair and a group in the second.
PAIRS = Points("p", "P", (0.0, 0.1, 5.0, 5.1), (0.0,) * 4, ("a", "b", "c", "c"), ("x", "x", "y", "z"))


def test_only_what_can_be_drawn() -> None:
    """Names that are missing are empty; groups and panels stand as they first come."""
    part = Points(
        "p", "P", (1.0, math.nan, 3.0, 4.0), (1.0, 2.0, 3.0, math.inf), ("b", "c", "a"), panels=("two", "", "one")
    )
    assert [(one.x, one.group, one.label, one.panel) for one in points_of(part)] == [
        (1.0, "b", "", "two"),
        (3.0, "a", "", "one"),
    ]
    assert groups_of(part) == ["b", "a"]
    assert panels_of(part) == ["two", "one"]
    assert panels_of(Points("p", "P", (), (), ())) == [""]


def test_neighbours() -> None:
    points = points_of(PAIRS)
    assert neighbours(points, lambda one: one.group) == 0.5
    assert neighbours(points, lambda one: one.label) == 0.5
    assert neighbours(points[:2], lambda one: one.group) == 0.0
    assert neighbours(points[:2], lambda one: one.label) is None, "all are the same"
    assert neighbours(points[:1], lambda one: one.group) is None


def test_labels_stand_amid_their_points() -> None:
    """Once for all that share one; nowhere where they are too many to be read."""
    part = Points("p", "P", (0.0, 2.0, 9.0, 7.0), (0.0, 4.0, 0.0, 5.0), ("a",) * 4, ("x", "x", "x", "y"))
    assert written(points_of(part)) == [("x", 2.0, 0.0), ("y", 7.0, 5.0)]
    assert written(points_of(Points("p", "P", (1.0,), (1.0,), ("a",)))) == []
    many = tuple(map(str, range(41)))
    line = tuple(map(float, range(41)))
    assert written(points_of(Points("p", "P", line, line, many, many))) == []
    assert len(written(points_of(Points("p", "P", line[:40], line, many, many)))) == 40


def test_few_points_are_listed_and_many_summed_up() -> None:
    """The panel is named where there are several."""
    listed = figures_of(PAIRS)
    assert listed.columns == ("group", "label", "x", "y")
    assert listed.rows[1] == ("b", "x", 0.1, 0.0)
    few = figures_of(Points("p", "P", (1.0, 2.0), (3.0, 4.0), ("a", "b"), (), ("one", "two"), "across", "up"))
    assert few.columns == ("group", "label", "panel", "across", "up")
    assert few.rows[1] == ("b", "", "two", 2.0, 4.0)
    example = report_example.points()
    many = figures_of(Points("p", "P", *(each * 2 for each in (example.x, example.y, example.groups, example.labels))))
    assert [row[:2] for row in many.rows] == [("all", 120)]
    half = figures_of(
        Points("p", "P", (*PAIRS.x * 16, 99.0), (0.0,) * 65, PAIRS.groups * 16, (), ("one",) * 64 + ("two",))
    )
    assert [row[:2] for row in half.rows] == [("one", 64), ("two", 1)]
    assert half.rows[1][2:] == (None, None)


@pytest.mark.parametrize(("panel", "shares"), [("before", (1.0, 0.0)), ("after", (0.0, 1.0))])
def test_shares_by_panel(panel: str, shares: tuple[float, float]) -> None:
    here = [one for one in points_of(report_example.points()) if one.panel == panel]
    assert (neighbours(here, lambda one: one.group), neighbours(here, lambda one: one.label)) == shares
