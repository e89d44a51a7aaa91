"""The summary of a report as rows of words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_langcore.knowledge.bootstrap import Estimate

COLUMNS = (
    "",
    "language",
    "kind or phenomenon",
    "entries",
    "chance",
    "right",
    "right, per byte",
    "margin (nats)",
    "lift (nats)",
)


def cells_of(row: Mapping[str, Any]) -> list[str]:
    """The cells of a line, in the order of `COLUMNS`."""
    return [
        row["what"],
        row["language"] or "all",
        row["group"] or "all",
        str(row["items"]),
        f"{row['chance']:.0%}",
        *(f"{one.value:.0%} ({one.low:.0%} to {one.high:.0%})" for one in (row["accuracy"], row["accuracy_per_byte"])),
        *(_nats(one) for one in (row["margin"], row["lift"])),
    ]


def _nats(one: Estimate | None) -> str:
    return "" if one is None else f"{one.value:+.2f} ({one.low:+.2f} to {one.high:+.2f})"
