"""What a verification found: one result for each entry, and a verdict."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, overload

from hf_langcore.files import replace_text
from hf_langcore.printing import printed
from hf_langcore.registry.entry import Entry
from hf_langcore.scanning.statistics import Interval
from hf_langcore.sealing import sealed

Verdict = Literal["holds", "does not hold", "inconclusive", "missing"]

FORMAT = "hf_langcore/verification"
FORMAT_VERSION = 1

_LARGE = 1000
_COLOURS: Mapping[str, str] = {"holds": "green", "does not hold": "red", "inconclusive": "yellow", "missing": "dim"}


@dataclass(frozen=True, slots=True)
class MeasuredActivation:
    """What a dimension of the residual stream holds here.

    Attributes:
        largest: Its value of largest magnitude, with sign.
        ratio: How many times that is above the median magnitude of its window's hidden states behind that layer.
        layers: Decoder layers in whose outputs it is massive.
        rank: 1 if it is the largest of all massive dimensions, 2 the next, and so on.
        start_share: Share of the massive positions, in the layer of the largest value, that are start tokens.
    """

    largest: float
    ratio: float
    layers: tuple[int, ...]
    rank: int
    start_share: float


@dataclass(frozen=True, slots=True)
class VerifiedEntry:
    """An entry and what it did here.

    Attributes:
        entry: The entry.
        verdict: "holds", "does not hold", "inconclusive" or "missing".
        reason: Why, in a sentence.
        ratio: Perplexity with the edit / without; None where nothing was edited.
        interval: Bootstrap interval of the ratio; None where the text is too short.
        control_ratio: The largest ratio of the random controls; None where there was none.
        tensor: What was edited; of several tensors that may be meant, the one that did most.
        joint_ratio: The same for all coordinates of the entry's group together.
        mean_set_ratio: For activations: the ratio when they are set to their mean instead of zero.
        activation: For activations: what is there; None where the dimension is not massive.
    """

    entry: Entry
    verdict: Verdict
    reason: str
    ratio: float | None = None
    interval: Interval | None = None
    control_ratio: float | None = None
    tensor: str | None = None
    joint_ratio: float | None = None
    mean_set_ratio: float | None = None
    activation: MeasuredActivation | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON values; what is infinite is "inf"."""
        interval, activation = self.interval, self.activation
        return {
            "id": self.entry.id,
            "coordinate": self.entry.coordinate(),
            "verdict": self.verdict,
            "reason": self.reason,
            "ratio": _figure(self.ratio),
            "interval": None if interval is None else [_figure(interval.low), _figure(interval.high), interval.level],
            "control_ratio": _figure(self.control_ratio),
            "tensor": self.tensor,
            "joint_ratio": _figure(self.joint_ratio),
            "mean_set_ratio": _figure(self.mean_set_ratio),
            "activation": None
            if activation is None
            else {
                "largest": activation.largest,
                "ratio": _figure(activation.ratio),
                "layers": list(activation.layers),
                "rank": activation.rank,
                "start_share": activation.start_share,
            },
            "entry": self.entry.to_dict(),
        }


@dataclass(frozen=True)
class Verification(Sequence[VerifiedEntry]):
    """Results of `verify`, in the order of the entries.

    Attributes:
        results: One for each entry.
        settings: Model, revision, versions, date, digest of the text, tokens, thresholds, perplexity without an edit.
    """

    results: tuple[VerifiedEntry, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @overload
    def __getitem__(self, index: int) -> VerifiedEntry: ...

    @overload
    def __getitem__(self, index: slice) -> Verification: ...

    def __getitem__(self, index: int | slice) -> VerifiedEntry | Verification:
        if isinstance(index, slice):
            return replace(self, results=self.results[index])
        return self.results[index]

    def __len__(self) -> int:
        return len(self.results)

    def counts(self) -> dict[str, int]:
        """Verdict -> number of entries."""
        return {verdict: sum(one.verdict == verdict for one in self.results) for verdict in _COLOURS}

    def of(self, entry_id: str) -> VerifiedEntry:
        """The result of the entry with this id.

        Raises:
            KeyError: There is none.
        """
        for one in self.results:
            if one.entry.id == entry_id:
                return one
        raise KeyError(entry_id)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "settings": dict(self.settings),
            "counts": self.counts(),
            "results": [one.to_dict() for one in self.results],
        }

    def to_json(self, path: str | Path | None = None) -> str:
        """The results as JSON, sealed with a checksum; also written to `path`."""
        text = json.dumps(sealed(self.to_dict()), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        if path is not None:
            replace_text(Path(path), text)
        return text

    def __str__(self) -> str:
        return printed(self)

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        shown = [f"{count} {verdict}" for verdict, count in self.counts().items() if count]
        title = Text(
            f"{self.settings.get('model') or 'model'}: {', '.join(shown)}"
        )  # no markup: figures have brackets
        table = Table(title=title, title_justify="left")
        for column in ("coordinate", "operation", "claim", "measured", "controls", "verdict"):
            table.add_column(
                column, justify="right" if column in {"measured", "controls"} else "left", overflow="fold"
            )
        for one in self.results:
            entry = one.entry
            table.add_row(
                Text(entry.coordinate()),
                _operation(entry),
                f"{entry.expected} ({entry.status.replace('_', ' ')})",
                Text(_measured(one)),
                _short(one.control_ratio),
                Text(one.verdict, style=_COLOURS[one.verdict]),
            )
        reasons = [Text(f"{one.entry.id}: {one.reason}") for one in self.results if one.verdict != "holds"]
        return Group(table, *reasons)


def _operation(entry: Entry) -> str:
    value = "" if entry.value is None else f" {entry.value:g}"
    return f"{entry.operation}{value}"


def _measured(one: VerifiedEntry) -> str:
    if one.ratio is None:
        return "-"
    interval = "" if one.interval is None else f" [{_short(one.interval.low)}, {_short(one.interval.high)}]"
    mean = "" if one.mean_set_ratio is None else f"; mean {_short(one.mean_set_ratio)}"
    joint = "" if one.joint_ratio is None else f"; jointly {_short(one.joint_ratio)}"
    return f"{_short(one.ratio)}{interval}{mean}{joint}"


def _short(value: float | None) -> str:
    if value is None:
        return "-"
    return f"x{value:.3g}" if value < _LARGE or math.isinf(value) else f"x{value:,.0f}"


def _figure(value: float | None) -> float | str | None:
    return str(value) if value is not None and not math.isfinite(value) else value
