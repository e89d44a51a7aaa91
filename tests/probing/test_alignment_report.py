"""Alignments as data: read back, compared, shown."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hf_langcore.errors import InputError
from hf_langcore.probing.alignment_report import AlignmentReport, Measure, change, ends

NAN = np.nan


def _measure(values: list[float], *, draws: Any = ((0.1, 0.3), (0.4, 0.6)), by_seeds: bool = False) -> Measure:
    pairs = np.array([[[1.0, one], [one, NAN]] for one in values])
    return Measure(
        pairs, pairs - 0.1, pairs + 0.1, np.array(values), np.array(draws), np.array([0.0, NAN]), np.ones(2), by_seeds
    )


REPORT = AlignmentReport(
    ("en", "zh"),
    (0, 4),
    ("nsubj", "obj"),
    {"rsa": _measure([0.2, 0.5]), "transport": _measure([0.2, 0.5], by_seeds=True)},
    {"seed": 0},
)


def test_read_back() -> None:
    """Through real JSON; what is no figure is None there."""
    text = REPORT.to_json()
    values = json.loads(text)
    assert values["measures"]["rsa"]["pairs"][0] == [[1.0, 0.2], [0.2, None]]
    assert AlignmentReport.from_dict(values).to_dict() == REPORT.to_dict() == values


@pytest.mark.parametrize(
    "damage",
    [
        {"layers": [0]},
        {"languages": ["en"]},
        {"languages": None},
        {"measures": {"rsa": {"pairs": []}}},
        {"measures": {"other": REPORT.to_dict()["measures"]["rsa"]}},
        {"settings": 3},
    ],
)
def test_other_data_is_named(damage: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="again"):
        AlignmentReport.from_dict({**REPORT.to_dict(), **damage})


def test_intervals() -> None:
    """Standard errors about the figure, or the smallest and largest; nothing from nothing."""
    half = 1.96 * np.std([0.1, 0.3], ddof=1)
    assert REPORT.measures["rsa"].interval(0) == pytest.approx((0.2, 0.2 - half, 0.2 + half))
    assert REPORT.measures["transport"].interval(1) == pytest.approx((0.5, 0.4, 0.6))
    for draws in (np.zeros((1, 0)), np.ones((1, 1))):
        assert np.isnan(ends(np.ones(1), draws, by_seeds=False)).all()
    assert np.isnan(ends(np.ones(1), np.zeros((1, 0)), by_seeds=True)).all()


def test_best_layer() -> None:
    """Of likeness the highest, of distances the lowest."""
    assert REPORT.best_layer() == 4
    assert REPORT.best_layer("transport") == 0
    assert REPORT.matrix("rsa", 4)[0, 1] == 0.5


def test_change() -> None:
    """Draw by draw, so that what all draws share drops out."""
    moved = _measure([0.4, 0.6], draws=((0.3, 0.5), (0.6, 0.7)))
    after = replace(REPORT, measures={"transport": replace(moved, by_seeds=True), "rsa": moved})
    found = change(REPORT, after)
    assert list(found) == ["rsa", "transport"]
    assert found["rsa"][0] == pytest.approx((0.2, 0.2, 0.2))
    half = 1.96 * np.std([0.2, 0.1], ddof=1)
    assert found["rsa"][1] == pytest.approx((0.1, 0.1 - half, 0.1 + half))
    assert found["transport"][1] == pytest.approx((0.1, 0.1, 0.2))
    with pytest.raises(InputError, match="same languages"):
        change(REPORT, replace(after, layers=(0, 5)))
    with pytest.raises(InputError, match="2 and 1 times"):
        change(REPORT, replace(REPORT, measures={"rsa": _measure([0.2, 0.5], draws=((0.1,), (0.4,)))}))


def test_shown() -> None:
    from rich.console import Console

    console = Console(width=160, color_system=None)
    with console.capture() as capture:
        console.print(REPORT)
    shown = capture.get()
    assert "Alignment of 2 relations" in shown
    assert "0.500 (0.400 to 0.600)" in shown
    assert ", shuffled 0.000" in shown
    assert "nan" not in shown
