"""What rich draws for a terminal, as plain text: for `print(report)` and `str(report)`."""

from __future__ import annotations

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
