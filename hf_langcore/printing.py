"""Tables of reports: for the terminal, as Markdown, and what rich draws as plain text for `print(report)`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def printed(renderable: Any, *, width: int = 100) -> str:
    """A table or anything else that rich draws, without colours.

    Args:
        renderable: Such a thing, or an object with `__rich__`.
        width: Characters per line at most.
    """
    from rich.console import Console

    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get().rstrip()


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose first column names the rows and whose others are figures."""
    lines = ["| " + " | ".join(header) + " |", "| " + " | ".join(["---"] + ["---:"] * (len(header) - 1)) + " |"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def table_with_total(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str) -> Any:
    """The same for rich, with the last row set apart: a mean or a sum."""
    from rich.table import Table

    table = Table(title=title, caption=caption, header_style="bold", title_justify="left")
    table.add_column(header[0])
    for name in header[1:]:
        table.add_column(name, justify="right")
    for number, row in enumerate(rows, start=2 - len(rows)):
        table.add_row(*row, style="bold" if number == 1 else None, end_section=number == 0)
    return table
