"""Sections on the console: their tables, and what else a terminal can show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hf_langcore.report.numbers import decimals_of, text_of
from hf_langcore.report.parts import Curves, Matrix, Points, Section, Table, Texts
from hf_langcore.report.point_data import figures_of

_WIDEST = 12  # columns that fit a terminal


def render_section(section: Section) -> Any:
    """What rich prints for a section; figures that need a page are named only."""
    from rich.console import Group
    from rich.text import Text

    head = Text(f"\n{section.title}", style="bold")
    return Group(head, *(Text(paragraph) for paragraph in section.text), *_parts(section))


def _parts(section: Section) -> Iterator[Any]:
    from rich.text import Text

    for part in section.parts:
        table = _table_of(part)
        if table is not None:
            yield _rich(table)
        else:
            yield Text(f"[{part.title}: on the page of `langcore report`]", style="dim")


def _table_of(part: Any) -> Table | None:
    if isinstance(part, Table):
        return part
    if isinstance(part, Texts):
        said = tuple((name, part.figures.get(name, ""), text) for name, text in part.texts.items())
        return Table(part.name, f"{part.title}: {part.prompt}", ("condition", "figure", "text"), said)
    if isinstance(part, Curves) and len(part.lines) < _WIDEST:
        points = tuple((x, *(line[at] for line in part.lines.values())) for at, x in enumerate(part.x))
        return Table(part.name, f"{part.title} ({part.y_label})", (part.x_label, *part.lines), points)
    if isinstance(part, Points):
        return figures_of(part)
    if isinstance(part, Matrix) and len(part.columns) < _WIDEST:
        rows = tuple((name, *values) for name, values in zip(part.rows, part.values, strict=True))
        return Table(part.name, part.title, ("", *part.columns), rows)
    return None


def _rich(table: Table) -> Any:
    from rich.table import Table as RichTable
    from rich.text import Text

    made = RichTable(title=table.title, caption=table.note or None, title_justify="left", caption_justify="left")
    for number, name in enumerate(table.columns):
        is_text = all(isinstance(row[number], str) or row[number] is None for row in table.rows)
        made.add_column(name, justify="left" if number == 0 or is_text else "right", overflow="fold")
    decimals = [decimals_of(row[number] for row in table.rows) for number in range(len(table.columns))]
    for number, row in enumerate(table.rows):
        before_total = table.last_is_total and number == len(table.rows) - 2
        made.add_row(
            *(Text(text_of(cell, places)) for cell, places in zip(row, decimals, strict=True)),
            end_section=before_total,
        )  # no markup in what models say
    return made
