"""Small pieces of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

HUB = "https://huggingface.co"


def table(head: Sequence[str], rows: Iterable[Sequence[object]], *, right: int = 0) -> str:
    """A table; bars and line breaks in cells do not break it.

    Args:
        head: Titles of the columns.
        rows: As many cells in each.
        right: So many of the last columns are numbers, and set to the right.
    """
    left = len(head) - right
    rule = ["---"] * left + ["---:"] * right
    return "\n".join(_line(cells) for cells in (head, rule, *rows))


def model_link(name: str | None, revision: str | None = None, *, otherwise: str) -> str:
    """A repository as a link, to its commit where that is known, or other words where it has no name."""
    if name is None:
        return otherwise
    if revision is None:
        return f"[`{name}`]({HUB}/{name})"
    return f"[`{name}`]({HUB}/{name}/tree/{revision}) at revision `{revision}`"


def fence(code: str) -> str:
    """A block of Python."""
    return f"```python\n{code.strip()}\n```"


def _line(cells: Sequence[object]) -> str:
    return f"| {' | '.join(str(cell).replace('|', chr(92) + '|').replace(chr(10), ' ') for cell in cells)} |"
