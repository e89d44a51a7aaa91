"""Means with bootstrap intervals over clusters of values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ENDS = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean.

    Attributes:
        value: The mean.
        low: Lower end of its 95 % interval.
        high: Upper end.
        items: Number of values.
    """

    value: float
    low: float
    high: float
    items: int


def draws(clusters: Sequence[str], *, resamples: int, seed: int) -> NDArray[np.float64]:
    """How often each value counts in each resample: clusters are drawn with replacement, and their values come together.

    Returns:
        (resamples, values)
    """
    names, number = np.unique(np.asarray(clusters), return_inverse=True)
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    return counts[:, number].astype(np.float64)


def estimate(values: Sequence[float], clusters: Sequence[str], *, resamples: int, seed: int) -> Estimate:
    """The mean of the values, and the middle 95 % of the means of resampled clusters."""
    found = np.asarray(values, dtype=np.float64)
    mean = float(found.mean())
    if not np.isfinite(found).all():
        return Estimate(mean, mean, mean, len(found))
    weights = draws(clusters, resamples=resamples, seed=seed)
    low, high = np.percentile((weights @ found) / weights.sum(axis=1), _ENDS)
    return Estimate(mean, float(low), float(high), len(found))
