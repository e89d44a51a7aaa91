"""What a report is made of, as plain data: sections of tables, curves, points, matrices, heat maps and texts.

Experiments return sections, and whoever draws them needs to know no experiment. Everything can be written as JSON and
read back: infinite figures, which destroyed models give, included.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, TypeAlias

from hf_langcore.errors import InputError


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure and what it may vary by.

    Attributes:
        value: The figure.
        low: Lower end of its interval, or the smallest over seeds.
        high: Upper end.
    """

    value: float
    low: float
    high: float


Cell: TypeAlias = "str | int | float | Spread | None"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows and columns.

    Attributes:
        name: Short name, unique in its section; names files and anchors.
        title: What it shows.
        columns: Titles of the columns; the first names the rows.
        rows: Cells, as many as there are columns in each row. None is an empty cell.
        note: What a reader has to know about the figures.
        log_bars: Titles of columns whose figures also get a bar on a common logarithmic axis.
        last_is_total: The last row is a mean or a sum.
    """

    kind: ClassVar[str] = "table"
    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    log_bars: tuple[str, ...] = ()
    last_is_total: bool = False


@dataclass(frozen=True, slots=True)
class Curves:
    """Lines over one axis: dose curves, recovery curves, losses over epochs.

    Attributes:
        name: As in `Table`.
        title: What it shows.
        x_label: The axis and its unit.
        y_label: The axis and its unit.
        x: Positions, ascending.
        lines: Label -> figures at these positions; None where nothing was measured.
        x_scale: "linear", "log" or "symlog" (logarithmic with a zero).
        y_scale: "linear" or "log".
        note: As in `Table`.
        bands: Label of a line -> lower and upper figures at each position.
        level: A figure to compare with, such as the perplexity of the unedited model.
    """

    kind: ClassVar[str] = "curves"
    name: str
    title: str
    x_label: str
    y_label: str
    x: tuple[float, ...]
    lines: Mapping[str, tuple[float | None, ...]]
    x_scale: str = "linear"
    y_scale: str = "linear"
    note: str = ""
    bands: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = field(default_factory=dict)
    level: float | None = None


@dataclass(frozen=True, slots=True)
class Points:
    """Single places in a plane, such as vectors brought down to two dimensions: by group, by label, in one panel or more.

    Attributes:
        name: As in `Table`.
        title: What it shows.
        x: Places across, one for each point; what is not finite is not drawn.
        y: Places upwards, likewise.
        groups: What each point belongs to, such as its language: its colour and shape.
        labels: What else each point is, such as its relation: a word at its point, or amid the points that share it. Empty
            for none.
        panels: Which panel each point stands in, such as "before" or "after"; all panels have the same axes. Empty for
            one panel.
        x_label: The axis and its unit; without one there are no ticks, since places have no meaning of their own.
        y_label: Likewise.
        note: As in `Table`.
    """

    kind: ClassVar[str] = "points"
    name: str
    title: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    groups: tuple[str, ...]
    labels: tuple[str, ...] = ()
    panels: tuple[str, ...] = ()
    x_label: str = ""
    y_label: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Matrix:
    """A grid of figures with names on both sides: overlaps, shares by layer and role, removal of regions.

    Attributes:
        name: As in `Table`.
        title: What it shows.
        rows: Names of the rows.
        columns: Names of the columns.
        values: Figures by row; None where there is none.
        unit: Of the figures, such as "share" or "nats per token".
        note: As in `Table`.
        is_signed: Figures may be of both signs, so that the colours part at zero.
        tree: For a square matrix its clustering, as scipy's linkage writes it: (one, other, distance, size) by step.
    """

    kind: ClassVar[str] = "matrix"
    name: str
    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    unit: str = ""
    note: str = ""
    is_signed: bool = False
    tree: tuple[tuple[float, ...], ...] | None = None


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Where a region lies in one weight matrix.

    Attributes:
        parameter: Name of the matrix.
        shape: Rows (outputs) and columns (inputs) of the matrix.
        density: Share of the weights of each cell that belong to the region, by row of cells.
        row_profile: Share of each row, in as many bins as `density` has rows.
        column_profile: Share of each column, likewise.
        detail: The densest place at full resolution: first row, first column, and the bits of that window by row.
    """

    parameter: str
    shape: tuple[int, int]
    density: tuple[tuple[float, ...], ...]
    row_profile: tuple[float, ...]
    column_profile: tuple[float, ...]
    detail: tuple[int, int, tuple[tuple[int, ...], ...]] | None = None


@dataclass(frozen=True, slots=True)
class HeatMaps:
    """A region in all matrices of a model.

    Attributes:
        name: As in `Table`.
        title: What it shows.
        maps: One for each matrix.
        note: As in `Table`.
    """

    kind: ClassVar[str] = "heat_maps"
    name: str
    title: str
    maps: tuple[HeatMap, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Texts:
    """What the model says under several conditions, side by side.

    Attributes:
        name: As in `Table`.
        title: What it shows.
        prompt: What the model was asked to go on from.
        texts: Condition -> continuation, without the prompt.
        figures: Condition -> a word about it, such as its perplexity.
        note: As in `Table`.
    """

    kind: ClassVar[str] = "texts"
    name: str
    title: str
    prompt: str
    texts: Mapping[str, str]
    figures: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


Part: TypeAlias = "Table | Curves | Points | Matrix | HeatMaps | Texts"

_PARTS: dict[str, type[Any]] = {part.kind: part for part in (Table, Curves, Points, Matrix, HeatMaps, Texts)}


@dataclass(frozen=True, slots=True)
class Section:
    """What one experiment found.

    Attributes:
        name: Name of the experiment.
        title: Its title.
        text: Paragraphs: what was done, what is shown and what is not. Plain text with `code` and **bold**.
        parts: Tables and figures.
        facts: Sizes, texts, seeds: everything that the figures depend on.
        seconds: What it took.
    """

    name: str
    title: str
    text: tuple[str, ...]
    parts: tuple[Part, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def part(self, name: str) -> Any:
        """The part of this name.

        Raises:
            KeyError: There is none.
        """
        for part in self.parts:
            if part.name == name:
                return part
        raise KeyError(f"no part {name!r}; there are {[part.name for part in self.parts]}")

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        parts = [{"kind": part.kind, **_to_json(asdict(part))} for part in self.parts]
        head = {"name": self.name, "title": self.title, "text": list(self.text), "parts": parts}
        return {**head, "facts": _to_json(dict(self.facts)), "seconds": self.seconds}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Section:
        """Read what `to_dict` gave.

        Raises:
            InputError: It is no section.
        """
        try:
            return cls(
                name=str(values["name"]),
                title=str(values["title"]),
                text=tuple(map(str, values["text"])),
                parts=tuple(_part(one) for one in values["parts"]),
                facts=_facts(values["facts"]),
                seconds=float(values["seconds"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"This is no section of a report ({type(error).__name__}: {error}). Run the experiment again."
            ) from error


def _part(values: Mapping[str, Any]) -> Part:
    kind = _PARTS[values["kind"]]
    known = {one.name: _from_json(values[one.name]) for one in fields(kind) if one.name in values}
    if kind is HeatMaps:
        known["maps"] = tuple(HeatMap(**one) for one in known["maps"])
    part: Part = kind(**known)
    return part


def _to_json(value: Any) -> Any:
    """JSON knows no infinity, and asdict turns a Spread into a mapping already."""
    if isinstance(value, Mapping):
        return {str(key): _to_json(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_json(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    return value


def _from_json(value: Any) -> Any:
    """Lists as tuples, so that what was read equals what was written."""
    if isinstance(value, Mapping):
        if set(value) == {"float"}:
            return float(value["float"])
        if set(value) == {"value", "low", "high"}:
            return Spread(**{key: _from_json(each) for key, each in value.items()})
        return {key: _from_json(each) for key, each in value.items()}
    return tuple(map(_from_json, value)) if isinstance(value, list) else value


def _facts(value: Any) -> Any:
    """As `_from_json`, with lists left as lists: facts are shown, not compared."""
    if isinstance(value, Mapping):
        return float(value["float"]) if set(value) == {"float"} else {key: _facts(each) for key, each in value.items()}
    return [_facts(each) for each in value] if isinstance(value, list) else value
