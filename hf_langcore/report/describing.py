"""What a figure shows, in words, for those who cannot see it."""

from __future__ import annotations

from collections.abc import Iterable

from hf_langcore.report.numbers import finite, short, value_of
from hf_langcore.report.parts import Curves, HeatMap, HeatMaps, Matrix, Part, Points, Table
from hf_langcore.report.point_data import groups_of, neighbours, panels_of, points_of

_NAMED = 12


def describe(part: Part | HeatMap) -> str:
    """One or two sentences: what is drawn, how much of it, and between which figures."""
    if isinstance(part, Curves):
        known = [value for line in part.lines.values() for value in line]
        lines = f"{len(part.lines)} lines ({_listed(part.lines)})"
        return f"{part.title}: {part.y_label} against {part.x_label}, {lines}{_between(known)}."
    if isinstance(part, Points):
        return _points(part)
    if isinstance(part, Matrix):
        unit = f" of {part.unit}" if part.unit else ""
        known = [value for row in part.values for value in row]
        return f"{part.title}: grid{unit} with {len(part.rows)} rows and {len(part.columns)} columns{_between(known)}."
    if isinstance(part, HeatMaps):
        return f"{part.title}: where the region lies in each of {len(part.maps)} weight matrices."
    if isinstance(part, HeatMap):
        rows, columns = part.shape
        return f"Where the region lies in {part.parameter} ({rows} rows, {columns} columns), with its row and column profile."
    if isinstance(part, Table):
        known = [value_of(cell) for row in part.rows for cell in row[1:]]
        return f"{part.title}: {len(part.rows)} rows, {_listed(part.columns[1:])}{_between(known)}."
    return f"{part.title}: {len(part.texts)} texts ({_listed(part.texts)})."


def _points(part: Points) -> str:
    """What the eye sees in a cloud: which points lie beside which."""
    points, panels, groups = points_of(part), panels_of(part), groups_of(part)
    counted = f"{_counted(len(points), 'point')} of {_counted(len(groups), 'group')}"
    said = [f"{part.title}: {counted} ({_listed(groups)})."]
    for panel in panels:
        here = [one for one in points if one.panel == panel]
        near = {
            "group": neighbours(here, lambda one: one.group),
            "label": neighbours(here, lambda one: one.label),
        }
        shares = [f"the same {name} for {share:.0%}" for name, share in near.items() if share is not None]
        where = f"In {panel!r} the" if len(panels) > 1 else "The"
        said += [f"{where} nearest point has {' and '.join(shares)} of the points."] if shares else []
    return " ".join(said)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _listed(names: Iterable[str]) -> str:
    known = list(map(str, names))
    more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
    return ", ".join(known[:_NAMED]) + more


def _between(values: Iterable[float | None]) -> str:
    known = finite(values)
    return f", between {short(min(known))} and {short(max(known))}" if known else ""
