"""Figures as a reader wants them: so many decimals as the column needs, intervals, infinities as words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hf_langcore.report.parts import Cell, Spread

_SCIENTIFIC_FROM = 1e7
_SHORT_FROM, _SHORT_BELOW = 1e5, 1e-3
_NARROW = 2.0  # from the low to the high end of an axis
_DECIMALS = ((0.1, 4), (1.0, 3), (100.0, 2), (1000.0, 1))  # below this typical size, so many


def is_number(cell: object) -> bool:
    """Whether a cell holds a figure (True and False are words)."""
    return isinstance(cell, (int, float, Spread)) and not isinstance(cell, bool)


def value_of(cell: object) -> float | None:
    """The figure in a cell, without its interval; None where there is none."""
    if isinstance(cell, Spread):
        cell = cell.value
    if not is_number(cell) or math.isnan(cell):  # type: ignore[arg-type]
        return None
    return float(cell)  # type: ignore[arg-type]


def finite(values: Iterable[float | None]) -> list[float]:
    """Those that are figures and finite."""
    return [value for value in values if value is not None and math.isfinite(value)]


def decimals_of(cells: Iterable[object]) -> int:
    """How many decimals a column's figures have, by their typical size."""
    sizes = sorted(abs(value) for value in finite(map(value_of, cells)) if value)
    if not sizes:
        return 2
    typical = sizes[len(sizes) // 2]
    return next((decimals for below, decimals in _DECIMALS if typical < below), 0)


def text_of(cell: Cell, decimals: int) -> str:
    """A cell as words: "3.14", "3.14 (2.90 to 3.40)", "inf", "12,345"; an empty one is empty."""
    if cell is None:
        return ""
    if isinstance(cell, Spread):
        ends = f"{_number(cell.low, decimals)} to {_number(cell.high, decimals)}"
        return f"{_number(cell.value, decimals)} ({ends})"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return str(cell) if isinstance(cell, str) else _number(cell, decimals)


def _number(value: float, decimals: int) -> str:
    if math.isnan(value):
        return "–"  # noqa: RUF001 a dash
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if isinstance(value, int) and abs(value) < _SCIENTIFIC_FROM * 1e5:
        return f"{value:,}"
    if abs(value) >= _SCIENTIFIC_FROM:
        return _power(value)
    text = f"{value:,.{decimals}f}"
    return f"{value:.2g}" if value and not text.strip("-0.,") else text


def short(value: float) -> str:
    """For ticks and cells of a grid: few characters."""
    if not math.isfinite(value):
        return "–" if math.isnan(value) else f"{value}"  # noqa: RUF001 a dash
    if value and not _SHORT_BELOW <= abs(value) < _SHORT_FROM:
        return _power(value)
    return f"{value:,.10g}" if value == round(value) else f"{value:.3g}"


def _power(value: float) -> str:
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def in_grid(value: float | None, decimals: int) -> str:
    """For cells of a matrix: as `text_of`, without the zero before the point."""
    if value is None:
        return ""
    if math.isfinite(value) and abs(value) >= _SHORT_FROM:
        return _power(value)
    return text_of(value, decimals).replace("0.", ".", 1) if abs(value) < 1 else text_of(value, decimals)


@dataclass(frozen=True, slots=True)
class LogAxis:
    """A logarithmic axis over some figures.

    Attributes:
        low: Its left end, a little below the smallest.
        high: Its right end, a little above the largest.
    """

    low: float
    high: float

    @classmethod
    def over(cls, values: Iterable[float | None]) -> LogAxis | None:
        """The axis of the positive figures; None without any."""
        positive = [value for value in finite(values) if value > 0]
        if not positive:
            return None
        margin = max(1.05, (max(positive) / min(positive)) ** 0.06)
        return cls(min(positive) / margin**2, max(positive) * margin)

    def share(self, value: float | None) -> float | None:
        """How far along the axis from 0 to 1; infinite is 1; None where it has no place."""
        if value is None or math.isnan(value) or value <= 0:
            return None
        if math.isinf(value):
            return 1.0
        return min(max(math.log(value / self.low) / math.log(self.high / self.low), 0.0), 1.0)


def log_ticks(low: float, high: float, *, most: int = 7) -> list[float]:
    """Round positions on a logarithmic axis: powers of ten, and 2 and 5 where these are few.

    Within less than that they are evenly spread and have three digits.
    """
    if high < low * _NARROW:
        even = (low + (high - low) * place for place in (0.15, 0.5, 0.85))
        return sorted({float(f"{tick:.3g}") for tick in even if low <= float(f"{tick:.3g}") <= high})
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps: Sequence[Any]
    for steps in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 5), (1, 3), (1,)):
        ticks = [step * 10.0**power for power in range(first, last + 1) for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= most:
            return ticks
    return ticks[:: math.ceil(len(ticks) / most)]
