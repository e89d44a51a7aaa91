"""Points by panel and group, and how they lie, in figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hf_langcore.report.parts import Cell, Points, Table

_MOST_COMPARED = 4000  # points whose nearest neighbours are looked for
_MOST_LISTED = 60
_MOST_NAMED = 40  # different labels that are written into a picture


@dataclass(frozen=True, slots=True)
class Point:
    """One point that can be drawn: both of its places are finite."""

    x: float
    y: float
    group: str
    label: str
    panel: str


def points_of(part: Points) -> list[Point]:
    """The points that can be drawn; missing names are empty."""
    names = (part.groups, part.labels, part.panels)
    known = (
        Point(float(x), float(y), *(str(each[number]) if number < len(each) else "" for each in names))
        for number, (x, y) in enumerate(zip(part.x, part.y, strict=False))
    )
    return [one for one in known if math.isfinite(one.x) and math.isfinite(one.y)]


def groups_of(part: Points) -> list[str]:
    """Groups as they first come, each once; their number is their colour and shape."""
    return list(dict.fromkeys(one.group for one in points_of(part)))


def panels_of(part: Points) -> list[str]:
    """Panels as they first come; at least one."""
    return list(dict.fromkeys(one.panel for one in points_of(part))) or [""]


def written(points: Sequence[Point]) -> list[tuple[str, float, float]]:
    """Labels and where to write them: at their point, or amid those that share it. None where they are too many."""
    shared: dict[str, list[Point]] = {}
    for one in points:
        shared.setdefault(one.label, []).append(one)
    shared.pop("", None)
    if len(shared) > _MOST_NAMED:
        return []
    return [
        (label, float(np.median([one.x for one in same])), float(np.median([one.y for one in same])))
        for label, same in shared.items()
    ]


def neighbours(points: Sequence[Point], name: Callable[[Point], str]) -> float | None:
    """Share of the points whose nearest point has the same name; None where there is nothing to compare."""
    count = len(points)
    if not 1 < count <= _MOST_COMPARED or len({name(one) for one in points}) < 2:  # noqa: PLR2004
        return None
    places = np.asarray([(one.x, one.y) for one in points])
    squares = (places**2).sum(1)
    distances = squares[:, None] + squares - 2 * places @ places.T
    np.fill_diagonal(distances, np.inf)
    nearest = distances.argmin(1)
    return sum(name(points[at]) == name(points[int(nearest[at])]) for at in range(count)) / count


def figures_of(part: Points) -> Table:
    """The points as a table; where they are many, how they lie in each panel."""
    points = points_of(part)
    several = len(panels_of(part)) > 1
    if len(points) <= _MOST_LISTED:
        columns = ("group", "label", *(("panel",) if several else ()), part.x_label or "x", part.y_label or "y")
        listed = ((one.group, one.label, *((one.panel,) if several else ()), one.x, one.y) for one in points)
        return Table(part.name, part.title, columns, tuple(listed), part.note)
    columns = ("panel", "points", "nearest point of the same group", "nearest point of the same label")
    return Table(part.name, part.title, columns, tuple(_rows(part, points)), part.note)


def _rows(part: Points, points: Sequence[Point]) -> Iterator[tuple[Cell, ...]]:
    for panel in panels_of(part):
        here = [one for one in points if one.panel == panel]
        yield (
            panel or "all",
            len(here),
            neighbours(here, lambda one: one.group),
            neighbours(here, lambda one: one.label),
        )
