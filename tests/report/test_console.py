"""Sections on the console."""

from __future__ import annotations

from typing import Any

from hf_langcore.report.console import render_section
from hf_langcore.report.parts import Curves, HeatMaps, Matrix, Points, Section, Spread, Table, Texts


def printed(section: Section) -> str:
    from rich.console import Console

    console = Console(width=120, color_system=None)
    with console.capture() as capture:
        console.print(render_section(section))
    return capture.get()


def test_every_part_is_shown_or_named() -> None:
    """Tables, small grids and texts; what needs a page is named. Words of a model are no markup."""
    parts: tuple[Any, ...] = (
        Table(
            "t",
            "The table",
            ("language", "base"),
            (("en", 1.5), ("zh", Spread(1.0, 0.5, float("inf"))), ("mean", None)),
            last_is_total=True,
            note="A note.",
        ),
        Curves("c", "The curves", "factor", "perplexity", (0.0, 1.0), {"en": (None, 2.0)}),
        Points("p", "The points", (1.5, 2.5), (0.25, 0.75), ("en", "zh"), ("nsubj", "obj"), x_label="across"),
        Matrix("m", "The matrix", ("row",), ("column",), ((0.25,),)),
        Matrix("w", "A wide matrix", ("row",), tuple("abcdefghijklmnop"), ((0.25,) * 16,)),
        Texts("s", "It said", "The prompt", {"base": "[red]words[/red]"}, {"base": "5.8"}),
        HeatMaps("h", "The maps", ()),
    )
    shown = printed(Section("x", "The title", ("A paragraph.",), parts))
    for words in (
        "The title",
        "A paragraph.",
        "The table",
        "A note.",
        "The curves",
        "The points",
        "nsubj",
        "across",
        "The matrix",
        "[red]words[/red]",
        "1.00 (0.50 to inf)",
    ):
        assert words in shown, words
    assert "The prompt" in shown
    assert "[A wide matrix: on the page" in shown
    assert "[The maps: on the page" in shown
