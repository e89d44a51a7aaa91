"""From figures to a verdict: one rule for each thing that a source can claim."""

from __future__ import annotations

from dataclasses import dataclass

from hf_langcore.errors import InputError
from hf_langcore.registry.entry import Expected
from hf_langcore.registry.results import Verdict
from hf_langcore.scanning.statistics import Interval


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Where "explodes" begins and where "nothing" ends, as ratios of perplexity.

    Attributes:
        explodes_at: From this ratio on perplexity counts as exploded.
        harmless_below: Up to this ratio an edit counts as doing nothing.
    """

    explodes_at: float = 2.0
    harmless_below: float = 1.1

    def __post_init__(self) -> None:
        if not 1.0 <= self.harmless_below <= self.explodes_at:
            raise InputError(
                "1 <= harmless_below <= explodes_at is needed, got "
                f"harmless_below={self.harmless_below!r}, explodes_at={self.explodes_at!r}."
            )


def judge(
    expected: Expected,
    ratio: float,
    interval: Interval | str,
    control: float | None,
    thresholds: Thresholds,
) -> tuple[Verdict, str]:
    """Whether a claim about an edit holds, and why.

    A coordinate of which nobody has measured the edit alone ("unknown") is judged as if it were claimed to explode, since
    that is why it is on the list.

    Args:
        expected: The claim.
        ratio: Perplexity with the edit / without.
        interval: Of the ratio, or why the text is too short for one.
        control: The largest ratio of the random controls; None where there was none.
        thresholds: Where "explodes" begins and "nothing" ends.
    """
    if isinstance(interval, str):
        return "inconclusive", f"Measured x{ratio:.4g}, but {interval[:1].lower()}{interval[1:]}"
    measured = f"x{ratio:.4g}, {100 * interval.level:g} % interval {interval.low:.4g} to {interval.high:.4g}"
    if expected == "none":
        return _harmless(measured, interval, thresholds.harmless_below)
    limit = thresholds.explodes_at
    if interval.high < limit:
        return "does not hold", f"The edit does not make perplexity explode: {measured}, below x{limit:g}."
    if interval.low < limit:
        return "inconclusive", f"The interval contains the limit of x{limit:g}: {measured}. More text would tell."
    if control is not None and control >= interval.low:
        return "does not hold", f"A random control does as much (x{control:.4g}): {measured}."
    against = "" if control is None else f"; random controls at most x{control:.4g}"
    return "holds", f"The edit makes perplexity explode: {measured}{against}."


def _harmless(measured: str, interval: Interval, limit: float) -> tuple[Verdict, str]:
    if interval.high <= limit:
        return "holds", f"The edit does nothing: {measured}, at most x{limit:g}."
    if interval.low > limit:
        return "does not hold", f"The edit does something: {measured}, above x{limit:g}."
    return "inconclusive", f"The interval contains the limit of x{limit:g}: {measured}. More text would tell."
