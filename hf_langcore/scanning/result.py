"""What a scan found: the critical dimensions, all that was measured, and how."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from hf_langcore.files import replace_text
from hf_langcore.printing import printed
from hf_langcore.scanning.candidates import Index
from hf_langcore.scanning.statistics import Interval
from hf_langcore.sealing import sealed

FORMAT_VERSION = 1

_LARGE = 10_000
_TITLES = ("parameter", "index", "kind", "factor", "perplexity", "ratio", "interval", "controls", "found by")


@dataclass(frozen=True, slots=True)
class CriticalDimension:
    """A dimension or a single weight, and what its edit does.

    Attributes:
        parameter: Name of the parameter in the bare model.
        axis: 0 for norm gains and rows, 1 for columns, in nn.Linear orientation; None where `index` is a tuple.
        index: A number; (row, column) of a single weight; with the expert's number in front in stacked experts.
        factor: The factor, of those tried, that hurts most.
        perplexity: Geometric mean perplexity over languages under that edit.
        base_perplexity: The same without an edit, on the same text.
        kind: "norm", "row", "column" or "weight".
        interval: Of the ratio, where it was measured on the whole text; see `hf_langcore.scanning.statistics`.
        control_ratio: The largest ratio of the matched controls; None where none was measured.
        sources: Who proposed it.
        layer: Number of the decoder layer; None outside of layers.
        residual: The residual dimension that it writes or reads; None where it is none.
        size: Number of weights that the edit changes.
        tokens: Scored tokens that it was measured on.
    """

    parameter: str
    axis: int | None
    index: Index
    factor: float
    perplexity: float
    base_perplexity: float
    kind: str = "norm"
    interval: Interval | None = None
    control_ratio: float | None = None
    sources: tuple[str, ...] = ()
    layer: int | None = None
    residual: int | None = None
    size: int = 1
    tokens: int = 0

    @property
    def perplexity_ratio(self) -> float:
        """How many times larger the perplexity becomes."""
        return self.perplexity / self.base_perplexity

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; infinite figures become the string "inf"."""
        ends = None if self.interval is None else [self.interval.low, self.interval.high, self.interval.level]
        values = {
            "parameter": self.parameter,
            "axis": self.axis,
            "index": list(self.index) if isinstance(self.index, tuple) else self.index,
            "kind": self.kind,
            "factor": self.factor,
            "perplexity": self.perplexity,
            "base_perplexity": self.base_perplexity,
            "perplexity_ratio": self.perplexity_ratio,
            "interval": ends,
            "control_ratio": self.control_ratio,
            "sources": list(self.sources),
            "layer": self.layer,
            "residual": self.residual,
            "size": self.size,
            "tokens": self.tokens,
        }
        return {name: _json(value) for name, value in values.items()}


@dataclass(frozen=True, slots=True)
class Control:
    """A place like a candidate that nothing speaks for, edited in the same way.

    Attributes:
        of: The candidate that it is compared with: parameter, kind and index.
        index: Where it is, in the same parameter.
        factor: The factor.
        perplexity_ratio: What its edit does.
    """

    of: tuple[str, str, Index]
    index: Index
    factor: float
    perplexity_ratio: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        ratio = _json(self.perplexity_ratio)
        return {"of": list(self.of), "index": self.index, "factor": self.factor, "perplexity_ratio": ratio}


@dataclass(frozen=True, slots=True)
class JointEffect:
    """The reported dimensions edited together, and with each left out.

    Attributes:
        rise: Rise of the mean loss under all edits together, in nats per token.
        without: Parameter, kind and index of a dimension -> the rise when all others are edited.
    """

    rise: float
    without: Mapping[tuple[str, str, Index], float]

    @property
    def shares(self) -> dict[tuple[str, str, Index], float]:
        """How much of the joint rise goes away when a dimension is left out: 1 is all of it, 0 nothing."""
        return {place: _share_lost(self.rise, rise) for place, rise in self.without.items()}

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        rows = [
            {"parameter": place[0], "kind": place[1], "index": place[2], "rise": _json(rise), "share": _json(share)}
            for (place, rise), share in zip(self.without.items(), self.shares.values(), strict=True)
        ]
        return {"rise": _json(self.rise), "without": rows}


@dataclass(frozen=True, slots=True)
class DimensionMap:
    """What edits of residual dimensions do, layer by layer.

    Attributes:
        values: Log perplexity ratio, float64, (rows, residual dimensions): the worst edit of that dimension in that layer, be
            it a gain, the row that writes it or the column that reads it; NaN where none was measured.
        rows: Names of the rows: the numbers of the layers, and "outside" for what lies outside of layers (the final norm).
    """

    values: NDArray[np.float64]
    rows: tuple[str, ...]


@dataclass(frozen=True)
class CriticalScan(Sequence[CriticalDimension]):
    """The critical dimensions of a model, strongest first; empty where there are none.

    Attributes:
        critical: Those that are reported.
        measured: Everything that was edited, strongest first, the reported ones included.
        controls: What matched random controls did.
        joint: The reported ones together, with each left out; None for fewer than two.
        base_perplexity: Geometric mean perplexity over languages without an edit, on the whole text.
        settings: Model, text, versions and options; what was skipped, and how many passes it took.
        num_layers: Decoder layers of the model.
        width: Residual dimensions of the model.
    """

    critical: tuple[CriticalDimension, ...]
    measured: tuple[CriticalDimension, ...]
    controls: tuple[Control, ...]
    joint: JointEffect | None
    base_perplexity: float
    settings: Mapping[str, Any] = field(default_factory=dict)
    num_layers: int = 0
    width: int = 0

    @overload
    def __getitem__(self, index: int) -> CriticalDimension: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[CriticalDimension, ...]: ...
    def __getitem__(self, index: int | slice) -> CriticalDimension | tuple[CriticalDimension, ...]:
        if not isinstance(index, slice) and not -len(self.critical) <= index < len(self.critical):
            raise IndexError(
                f"The scan reports {len(self.critical)} critical dimensions, so there is none at {index}; scan.measured has "
                f"all {len(self.measured)} that were edited."
            )
        return self.critical[index]

    def __len__(self) -> int:
        return len(self.critical)

    def map(self) -> DimensionMap:
        """Layers x residual dimensions: what the worst measured edit of each does."""
        rows = (*map(str, range(self.num_layers)), "outside")
        values = np.full((len(rows), self.width), np.nan)
        for one in self.measured:
            if one.residual is not None and one.residual < self.width:
                place = self.num_layers if one.layer is None else one.layer, one.residual
                values[place] = np.fmax(values[place], np.log(one.perplexity_ratio))
        return DimensionMap(values, rows)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; infinite figures become the string "inf"."""
        return {
            "format_version": FORMAT_VERSION,
            "settings": dict(self.settings),
            "base_perplexity": self.base_perplexity,
            "num_layers": self.num_layers,
            "width": self.width,
            "critical": [one.to_dict() for one in self.critical],
            "joint": None if self.joint is None else self.joint.to_dict(),
            "controls": [one.to_dict() for one in self.controls],
            "measured": [one.to_dict() for one in self.measured],
        }

    def to_json(self, path: str | Path | None = None) -> str:
        """As sealed JSON text; also written to `path` where one is given."""
        values = json.loads(json.dumps(self.to_dict(), allow_nan=False))  # as a reader will see it
        text = json.dumps(sealed(values), indent=2, ensure_ascii=False) + "\n"
        if path is not None:
            replace_text(Path(path), text)
        return text

    def __rich__(self) -> Any:
        """The table that rich prints."""
        from rich.table import Table

        found = self.critical or self.measured[:5]
        title = "Critical dimensions" if self.critical else "No critical dimension; the strongest of those measured"
        caption = (
            f"{len(self.measured):,} edited and measured; perplexity without an edit {figure(self.base_perplexity)}"
        )
        table = Table(title=title, caption=caption, header_style="bold", title_justify="left")
        for column in _TITLES:
            is_text = column in {"parameter", "kind", "found by"}
            table.add_column(column, justify="left" if is_text else "right", overflow="fold")
        for one in found:
            table.add_row(*cells(one))
        return table

    def __str__(self) -> str:
        return printed(self, width=200)


def cells(one: CriticalDimension) -> tuple[str, ...]:
    """The texts of a row of the table."""
    ends = "" if one.interval is None else f"{figure(one.interval.low)} to {figure(one.interval.high)}"
    return (
        one.parameter.removesuffix(".weight"),
        ", ".join(map(str, one.index)) if isinstance(one.index, tuple) else str(one.index),
        one.kind,
        f"x{one.factor:g}",
        figure(one.perplexity),
        figure(one.perplexity_ratio),
        ends,
        "" if one.control_ratio is None else figure(one.control_ratio),
        ", ".join(one.sources),
    )


def figure(value: float) -> str:
    """A perplexity or a ratio for people."""
    if math.isinf(value):
        return "inf"
    return f"{value:,.2f}" if value < _LARGE else f"{value:.2e}"


def _share_lost(whole: float, rest: float) -> float:
    if math.isinf(whole):
        return 0.0 if math.isinf(rest) else 1.0
    return (whole - rest) / whole if whole else 0.0


def _json(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_json(one) for one in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
