"""What the test "sink or language?" found: one table, and in words what its intervals say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hf_langcore.evaluation.language_score import number_or_inf
from hf_langcore.files import json_text
from hf_langcore.printing import printed
from hf_langcore.sinks.massive import MassiveActivation
from hf_langcore.sinks.rows import SinkRow
from hf_langcore.sinks.verdicts import Found, percent, verdicts

_LARGE = 10_000


@dataclass(frozen=True, slots=True)
class SinkTest:
    """All conditions, what the sink was taken to be, and what follows.

    Attributes:
        rows: In the order in which they are shown.
        dimensions: Dimensions of the residual stream that were taken out, held or zeroed; empty where there were none.
        positions: At which tokens activations were changed: "massive", or "all" for dimensions that were asked for and are not massive.
        massive: The massive activations that were found, largest ratio first.
        facts: Model, text, sizes: everything that the figures depend on.
    """

    rows: tuple[SinkRow, ...]
    dimensions: tuple[int, ...]
    positions: str
    massive: tuple[MassiveActivation, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, condition: str) -> SinkRow:
        for row in self.rows:
            if row.condition == condition:
                return row
        raise KeyError(f"no condition {condition!r}; there are {[row.condition for row in self.rows]}")

    def verdicts(self) -> dict[str, str]:
        """Question -> what the figures say about it, no more."""
        return verdicts(Found({row.condition: row for row in self.rows}, self.dimensions, self.positions))

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; infinite figures become the string "inf"."""
        values = {**asdict(self), "verdicts": self.verdicts(), "facts": dict(self.facts)}
        found: dict[str, Any] = _plain(values)
        return found

    def to_json(self, path: str | Path | None = None) -> str:
        """As JSON text; also written to `path` where one is given."""
        return json_text(self.to_dict(), path)

    def __str__(self) -> str:
        return printed(self)

    def __rich__(self) -> Any:
        """The table and the verdicts that rich prints."""
        from rich.console import Group
        from rich.table import Table

        table = Table(title="Sink or language?", header_style="bold", title_justify="left")
        for title in ("condition", "weights", "perplexity", "rise (nats)", "share of the core's"):
            table.add_column(title, justify="left" if title == "condition" else "right")
        for row in self.rows:
            table.add_row(row.condition, *_cells(row))
        return Group(table, *(f"{question} {answer}" for question, answer in self.verdicts().items()))


def _cells(row: SinkRow) -> list[str]:
    if row.rise is None or row.share is None or row.perplexity is None:
        return ["-", "-", "-", row.missing and "not tested"]
    perplexity = f"{row.perplexity:,.1f}" if row.perplexity < _LARGE else f"{row.perplexity:.2e}"
    rise = f"{row.rise.value:.3f} ({row.rise.low:.3f} to {row.rise.high:.3f})"
    return [f"{row.weights:,}", perplexity, rise, percent(row.share)]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return number_or_inf(value) if isinstance(value, float) else value
