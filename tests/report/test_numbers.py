"""Figures as words."""

from __future__ import annotations

import math

import pytest

from hf_langcore.report.numbers import LogAxis, decimals_of, in_grid, is_number, log_ticks, short, text_of, value_of
from hf_langcore.report.parts import Spread


@pytest.mark.parametrize(
    ("cell", "decimals", "text"),
    [
        (3.14159, 2, "3.14"),
        (12345.6, 0, "12,346"),
        (12345, 2, "12,345"),
        (Spread(3.0, 2.5, math.inf), 1, "3.0 (2.5 to inf)"),
        (math.inf, 2, "inf"),
        (-math.inf, 2, "-inf"),
        (math.nan, 2, "–"),  # noqa: RUF001 a dash
        (None, 2, ""),
        (True, 2, "yes"),
        ("zh", 2, "zh"),
        (1.5e9, 2, "1.5e9"),
        (0.00012, 2, "0.00012"),
        (-0.0004, 2, "-0.0004"),
        (0.0, 2, "0.00"),
        (10**15, 2, "1e15"),
    ],
)
def test_cells(cell: object, decimals: int, text: str) -> None:
    assert text_of(cell, decimals) == text  # type: ignore[arg-type]


def test_decimals_follow_the_typical_figure() -> None:
    assert decimals_of([0.03, 0.05, "en", None]) == 4
    assert decimals_of([8.1, 20.5, math.inf, 1e5]) == 1 + 1
    assert decimals_of([300.0]) == 1
    assert decimals_of([9000.0, Spread(8000.0, 1.0, 2.0)]) == 0
    assert decimals_of(["en"]) == 2


def test_short_figures() -> None:
    values = (0, 0.25, 1000.0, 1e5, 2.5e7, 1e-4, 0.12345, math.inf, -math.inf)
    assert [short(value) for value in values] == ["0", "0.25", "1,000", "1e5", "2.5e7", "1e-4", "0.123", "inf", "-inf"]


def test_cells_of_a_grid_are_narrow() -> None:
    assert [in_grid(value, 2) for value in (0.5, -0.25, 1.0, None, 3e6, 10.5)] == [
        ".50",
        "-.25",
        "1.00",
        "",
        "3e6",
        "10.50",
    ]


def test_what_is_a_figure() -> None:
    assert [is_number(cell) for cell in (1, 1.0, Spread(1, 1, 1), True, "1", None)] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]
    assert value_of(Spread(2.0, 1.0, 3.0)) == 2.0
    assert value_of(math.nan) is None
    assert value_of("2") is None


def test_a_log_axis_places_figures() -> None:
    """Equal factors are equal lengths; what is infinite is at the end, what is not positive nowhere."""
    axis = LogAxis.over([10.0, 1000.0, math.inf, None, -1.0, 0.0])
    assert axis is not None
    first, middle, last = (axis.share(value) for value in (10.0, 100.0, 1000.0))
    assert first is not None
    assert middle is not None
    assert last is not None
    assert 0 < first < middle < last < 1
    assert middle - first == pytest.approx(last - middle)
    assert axis.share(math.inf) == 1
    assert [axis.share(value) for value in (None, 0.0, -3.0, math.nan)] == [None] * 4
    assert axis.share(1e-9) == 0
    assert LogAxis.over([math.inf, None, 0.0]) is None


def test_a_single_figure_has_an_axis() -> None:
    axis = LogAxis.over([5.0])
    assert axis is not None
    assert 0 < (axis.share(5.0) or 0) < 1


@pytest.mark.parametrize(
    ("low", "high"), [(9.0, 11.0), (8.0, 2e5), (1e-300, 1e300), (1.0, 1e7), (99.0, 101.0), (12.1, 12.9)]
)
def test_log_ticks_are_few_round_and_inside(low: float, high: float) -> None:
    ticks = log_ticks(low, high)
    assert 1 <= len(ticks) <= 8
    assert all(low <= tick <= high for tick in ticks)
    assert ticks == sorted(ticks)
