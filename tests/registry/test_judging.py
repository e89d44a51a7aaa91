"""From figures to a verdict."""

from __future__ import annotations

import math
from typing import Any

import pytest

from hf_langcore.errors import InputError
from hf_langcore.registry.judging import Thresholds, judge
from hf_langcore.scanning.statistics import Interval


@pytest.mark.parametrize(
    ("expected", "low", "high", "control", "verdict"),
    [
        ("explodes", 2.0, 9.0, 1.5, "holds"),
        ("explodes", 2.0, 9.0, None, "holds"),
        ("explodes", math.inf, math.inf, 3.0, "holds"),
        ("explodes", 1.9, 9.0, 1.0, "inconclusive"),
        ("explodes", 0.9, 1.99, 1.0, "does not hold"),
        ("explodes", 2.0, 9.0, 2.0, "does not hold"),
        ("explodes", math.inf, math.inf, math.inf, "does not hold"),
        ("unknown", 2.0, 9.0, 1.5, "holds"),
        ("unknown", 1.0, 1.2, 1.0, "does not hold"),
        ("none", 0.9, 1.1, 1.0, "holds"),
        ("none", 1.0, 1.2, 1.0, "inconclusive"),
        ("none", 1.11, 1.2, 1.0, "does not hold"),
    ],
)
def test_verdicts(expected: Any, low: float, high: float, control: float | None, verdict: str) -> None:
    """The whole interval has to be on one side, and controls must not do as much."""
    ratio = min(low * 1.01, high)
    assert judge(expected, ratio, Interval(low, high, 0.95), control, Thresholds())[0] == verdict


def test_thresholds_move_the_verdict() -> None:
    """They are the user's to choose, in their order."""
    interval = Interval(1.3, 1.5, 0.95)
    assert judge("explodes", 1.4, interval, 1.0, Thresholds(explodes_at=1.2))[0] == "holds"
    assert judge("none", 1.4, interval, 1.0, Thresholds(harmless_below=1.6))[0] == "holds"
    for wrong in ({"explodes_at": 1.05}, {"harmless_below": 0.5}, {"harmless_below": 3.0}):
        with pytest.raises(InputError, match="harmless_below <= explodes_at"):
            Thresholds(**wrong)


def test_a_text_that_is_too_short_tells_nothing() -> None:
    """Whatever the ratio; the reason says what is needed."""
    verdict, reason = judge("explodes", 900.0, "The text is too short.", None, Thresholds())
    assert verdict == "inconclusive"
    assert reason == "Measured x900, but the text is too short."
