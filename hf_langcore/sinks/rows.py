"""The conditions of the test "sink or language?", and what is said of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from hf_langcore.scanning.losses import WindowLosses
from hf_langcore.scanning.statistics import ratio_interval, share_interval

BASE, CORE = "base", "core zeroed"
WITHOUT = "core without the sink dimensions zeroed"
ONLY = "only the sink part of the core zeroed"
HELD = "core zeroed, sink activations held at their mean"
ACTIVATIONS_ZERO = "sink activations zeroed, no weight edited"
ACTIVATIONS_MEAN = "sink activations at their mean, no weight edited"
CORE_MEAN = "core set to the mean of each tensor"
PART_MEAN = "sink part set to the mean of each tensor, rest of the core zeroed"
RANDOM = "random of equal size zeroed"
MAGNITUDE = "matched in magnitude zeroed"
PROFILE = "matched in rows and columns zeroed"
BOTH = "matched in rows, columns and magnitude zeroed"
OUTSIDE = "of those matched in all three, only the ones outside the core zeroed"
CONTROLS = (RANDOM, MAGNITUDE, PROFILE, BOTH)

Keep = Callable[[str, Callable[[], WindowLosses]], WindowLosses]
"""Takes the name of a condition and what measures it; gives its losses, measured now or kept from an earlier run."""

_LARGEST_LOSS = math.log(1e300)


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure and its interval.

    Attributes:
        value: The figure; of several seeds their mean.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    def is_above(self, limit: float) -> bool:
        """Whether all of the interval is."""
        return self.low > limit

    def is_below(self, limit: float) -> bool:
        """Whether all of the interval is."""
        return self.high < limit


@dataclass(frozen=True, slots=True)
class SinkRow:
    """One condition.

    Attributes:
        condition: What was done.
        weights: Weights that were edited; None where nothing could be measured.
        perplexity: Geometric mean over languages; of several seeds the geometric mean of theirs.
        rise: Of the mean loss, in nats per token.
        share: The rise as a share of the whole core's.
        over: What the intervals are over: "text" (paired bootstrap) or "seeds" (smallest and largest).
        overlap: Of a control, the share of its weights that are in the core too.
        displaced: Of a control, the share of its weights whose magnitude could not be matched.
        missing: Why there are no figures; empty where there are.
    """

    condition: str
    weights: int | None = None
    perplexity: float | None = None
    rise: Figure | None = None
    share: Figure | None = None
    over: Literal["text", "seeds"] = "text"
    overlap: float | None = None
    displaced: float | None = None
    missing: str = ""


def row_of(
    condition: str,
    weights: int,
    base: WindowLosses,
    core: WindowLosses,
    losses: WindowLosses,
    *,
    samples: int = 1000,
    seed: int = 0,
) -> SinkRow:
    """A row whose intervals are a paired bootstrap over the text."""
    ratio = ratio_interval(base, losses, samples=samples, seed=seed)
    share = share_interval(base, core, losses, samples=samples, seed=seed)
    rise = _difference(losses, base)
    whole = _difference(core, base)
    return SinkRow(
        condition,
        weights,
        losses.perplexity,
        Figure(rise, _log(ratio.low), _log(ratio.high)),
        Figure(_share(rise, whole), share.low, share.high),
    )


def row_of_seeds(
    condition: str, weights: int, base: WindowLosses, core: WindowLosses, losses: Sequence[WindowLosses]
) -> SinkRow:
    """A row of a control that was drawn several times: the means, smallest and largest over the draws."""
    rises = [_difference(one, base) for one in losses]
    shares = [_share(rise, _difference(core, base)) for rise in rises]
    mean = sum(one.mean_nll() for one in losses) / len(losses)
    perplexity = math.exp(mean) if mean < _LARGEST_LOSS else math.inf
    return SinkRow(condition, weights, perplexity, _range(rises), _range(shares), "seeds")


def _difference(losses: WindowLosses, base: WindowLosses) -> float:
    return losses.mean_nll() - base.mean_nll()


def _share(rise: float, whole: float) -> float:
    if math.isinf(whole):
        return 1.0 if math.isinf(rise) else 0.0
    return rise / whole if whole else math.nan


def _range(values: Sequence[float]) -> Figure:
    return Figure(sum(values) / len(values), min(values), max(values))


def _log(ratio: float) -> float:
    return math.log(ratio) if ratio > 0 else -math.inf
