"""`print(report)` shows what rich shows, in plain text."""

from __future__ import annotations

import importlib
import pkgutil

from rich.table import Table

import hf_langcore
from hf_langcore.printing import printed


def test_plain_text_of_the_width_that_is_asked_for() -> None:
    table = Table(title="A title", style="bold red")
    table.add_column("word " * 30)
    table.add_row("[green]yes[/green]")
    for width in (40, 100):
        lines = printed(table, width=width).splitlines()
        assert max(map(len, lines)) <= width
        assert "yes" in "".join(lines)
        assert "\x1b" not in "".join(lines)
        assert not lines[-1].isspace()


def test_whatever_rich_draws_can_be_printed() -> None:
    """No report shows its fields instead of its table."""
    packages = (
        "auditing",
        "compression",
        "evaluation",
        "knowledge",
        "probing",
        "registry",
        "scanning",
        "sinks",
        "switching",
    )
    drawn = []
    for package in packages:
        folder = importlib.import_module(f"hf_langcore.{package}").__path__
        for name in (one.name for one in pkgutil.iter_modules(folder)):
            module = importlib.import_module(f"hf_langcore.{package}.{name}")
            drawn += [one for one in vars(module).values() if isinstance(one, type) and "__rich__" in vars(one)]
    assert len(set(drawn)) > 10
    assert [one.__name__ for one in set(drawn) if "__str__" not in vars(one)] == []
    assert hf_langcore.PerplexityReport in drawn
