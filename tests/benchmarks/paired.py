"""Ratios of two things measured in turns in one process, so that a busy machine slows both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Ratio:
    """How much longer one thing takes than another.

    Attributes:
        median: Of the ratios of neighbouring measurements.
        low: Smallest ratio.
        high: Largest ratio.
        ours: Median seconds of the first thing.
        theirs: Median seconds of the second.
    """

    median: float
    low: float
    high: float
    ours: float
    theirs: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def ratio(ours: Callable[[], object], theirs: Callable[[], object], *, repeats: int, warmups: int = 2) -> Ratio:
    """Measure two things in turns; which goes first alternates.

    Args:
        ours: The thing whose time is the numerator.
        theirs: The thing that it is compared with.
        repeats: Pairs that count.
        warmups: Pairs before them that do not.
    """
    for _ in range(warmups):
        ours()
        theirs()
    pairs = []
    for turn in range(repeats):
        if turn % 2:
            second = _seconds(theirs)
            first = _seconds(ours)
        else:
            first = _seconds(ours)
            second = _seconds(theirs)
        pairs.append((first, second))
    ratios = [first / second for first, second in pairs]
    return Ratio(
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        statistics.median(first for first, _ in pairs),
        statistics.median(second for _, second in pairs),
    )


def _seconds(thing: Callable[[], object]) -> float:
    _wait()
    start = time.perf_counter()
    thing()
    _wait()
    return time.perf_counter() - start


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
