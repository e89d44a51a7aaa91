"""Means and intervals over seeds, tables, and the figure of what was learned against what was lost."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hf_langcore.errors import InputError
from hf_langcore.recipes.protection.methods import FULL, Method
from hf_langcore.recipes.protection.record import ProtectionRun

# Two-sided 95 % quantiles of Student's t by number of seeds.
_T95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
_NORMAL95 = 1.96

PAIRS = (
    ("frozen core, 3 %", f"{FULL}, learning rate 0.0005"),
    ("frozen core, 3 %", "frozen random weights, 3 %"),
    ("frozen largest weights, 3 %", "frozen random weights, 3 %"),
    ("frozen columns by Wanda, 50 %", "frozen random columns, 50 %"),
    ("anchor, uniform, 0.03, and frozen core", "anchor, uniform, 0.03"),
    ("general data, 5 times, and frozen core", "general data, 5 times"),
    ("general data, 5 times, and anchor, uniform, 0.03", "general data, 5 times"),
    ("masked adapter, r=16, learning rate 0.005", "LoRA, r=16, learning rate 0.005"),
    ("masked adapter, r=16, learning rate 0.002", "LoRA, r=16, learning rate 0.002"),
    ("masked adapter, r=16, learning rate 0.001", "LoRA, r=16, learning rate 0.001"),
)
"""Methods that differ in one thing only: what it changes is measured within seeds."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over seeds with its 95 % interval (Student's t); of one seed the bounds are NaN.

    Attributes:
        mean: The mean.
        low: Lower bound.
        high: Upper bound.
    """

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Interval:
        """The mean of one value per seed."""
        count = len(values)
        mean = sum(values) / count
        if count == 1:
            return cls(mean, math.nan, math.nan)
        deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1))
        half = _quantile(count) * deviation / math.sqrt(count)
        return cls(mean, mean - half, mean + half)

    @property
    def excludes_zero(self) -> bool:
        """Whether all of the interval lies on one side of zero."""
        return self.low > 0 or self.high < 0

    def percent(self) -> str:
        """A logarithm of a ratio as a change in per cent: "+12.3 % (+10.1 to +14.6)"."""
        mean, low, high = (f"{100 * math.expm1(value):+.1f}" for value in (self.mean, self.low, self.high))
        return f"{mean} %" if math.isnan(self.low) else f"{mean} % ({low} to {high})"

    def negative_nats(self) -> str:
        """A fall of a loss as its change, in nats per token: "-0.140 (-0.151 to -0.129)"."""
        mean, low, high = (f"{0.0 - value:+.3f}" for value in (self.mean, self.high, self.low))
        return mean if math.isnan(self.low) else f"{mean} ({low} to {high})"


def _quantile(count: int) -> float:
    """Two-sided 95 % quantile of Student's t; beyond the table the expansion about the normal one, right to 0.003."""
    free = count - 1
    normal = _NORMAL95 + (_NORMAL95**3 + _NORMAL95) / (4 * free)
    return _T95.get(count, normal + (5 * _NORMAL95**5 + 16 * _NORMAL95**3 + 3 * _NORMAL95) / (96 * free**2))


@dataclass(frozen=True, slots=True)
class Summary:
    """One method on one task, over seeds.

    Attributes:
        method: Its name.
        seeds: Number of seeds.
        gain: Loss on the task that training took away, in nats per token.
        forgotten: Logarithm of the factor by which the kept perplexities rose.
        excess: The same, less what plain fine-tuning loses at the same gain with the learning rate that suits it; None
            where no plain fine-tuning was done.
        exact_match: Share of exact answers; None where there are none.
        digit_match: Mean share of right digits; likewise.
        trained: Number of parameters that were trained.
        core_changed: Frozen weights whose bits changed, all seeds together.
        core_size: Number of weights that were looked at, all seeds together.
    """

    method: str
    seeds: int
    gain: Interval
    forgotten: Interval
    excess: Interval | None
    exact_match: Interval | None
    digit_match: Interval | None
    trained: int
    core_changed: int
    core_size: int


def summarise(runs: Sequence[ProtectionRun], methods: Sequence[Method]) -> list[Summary]:
    """One row per method that has runs, in the order of `methods`.

    Args:
        runs: Of one task, all seeds.
        methods: What was done; those of full fine-tuning are the curve that the others are compared with.
    """
    curves = _curves(runs, methods)
    summaries = []
    for method in methods:
        own = [run for run in runs if run.method == method.name]
        if own:
            summaries.append(_summary(own, curves))
    return summaries


def differences(runs: Sequence[ProtectionRun], method: str, control: str) -> tuple[Interval, Interval] | None:
    """What one change does, within seeds: more gain (nats per token), and more forgotten (logarithm).

    Returns:
        None where no seed has both.
    """
    by_seed = {name: {run.seed: run for run in runs if run.method == name} for name in (method, control)}
    both = sorted(by_seed[method].keys() & by_seed[control].keys())
    if not both:
        return None
    pairs = [(by_seed[method][seed], by_seed[control][seed]) for seed in both]
    return (
        Interval.of([one.gain - other.gain for one, other in pairs]),
        Interval.of([one.forgotten - other.forgotten for one, other in pairs]),
    )


def to_markdown(summaries: Sequence[Summary]) -> str:
    """The table of one task."""
    header = ["method", "target, nats", "kept languages", "at the same gain", "core weights changed"]
    exact = any(summary.exact_match is not None for summary in summaries)
    if exact:
        header.insert(2, "exact")
    lines = ["| " + " | ".join(header) + " |", "| --- |" + " ---: |" * (len(header) - 1)]
    for one in summaries:
        cells = [
            one.method,
            one.gain.negative_nats(),
            one.forgotten.percent(),
            "" if one.excess is None else one.excess.percent(),
            f"{one.core_changed:,} of {one.core_size:,}",
        ]
        if exact:
            cells.insert(2, "" if one.exact_match is None else f"{100 * one.exact_match.mean:.1f} %")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def pairs_to_markdown(runs: Sequence[ProtectionRun]) -> str:
    """What one change does, for the pairs of methods that differ in one thing."""
    lines = ["| this | against | target, nats | kept languages | |", "| --- | --- | ---: | ---: | --- |"]
    for method, control in PAIRS:
        found = differences(runs, method, control)
        if found is not None:
            gain, forgotten = found
            cells = [method, control, gain.negative_nats(), forgotten.percent(), _verdict(forgotten)]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def curves_of(summaries: Sequence[Summary], methods: Sequence[Method]) -> Mapping[str, list[Summary]]:
    """Summaries by curve, in order of what was forgotten; a method without a curve is one of its own."""
    names = {method.name: method.curve or method.name for method in methods}
    curves: dict[str, list[Summary]] = {}
    for summary in summaries:
        curves.setdefault(names[summary.method], []).append(summary)
    return {name: sorted(points, key=lambda point: point.forgotten.mean) for name, points in curves.items()}


def below(text: str, marker: str, part: str) -> str:
    """A page whose part below a marker line is another one; the marker is added at the end where it is missing.

    Raises:
        InputError: The marker is no single line.
    """
    if not marker.strip() or "\n" in marker:
        raise InputError(f"A marker is one line of text, got {marker!r}.")
    head = text.split(marker, 1)[0].rstrip("\n")
    return f"{head}\n\n{marker}\n\n{part.rstrip()}\n" if head else f"{marker}\n\n{part.rstrip()}\n"


def _verdict(forgotten: Interval) -> str:
    if math.isnan(forgotten.low):
        return "one seed"
    if not forgotten.excludes_zero:
        return "no difference measured"
    return "more kept" if forgotten.mean < 0 else "less kept"


def _summary(runs: Sequence[ProtectionRun], curves: Mapping[int, Callable[[float], float]]) -> Summary:
    excesses = [run.forgotten - curves[run.seed](run.gain) for run in runs if run.seed in curves]
    exact = [run.target_after.exact_match for run in runs if run.target_after.exact_match is not None]
    digits = [run.target_after.digit_match for run in runs if run.target_after.digit_match is not None]
    return Summary(
        method=runs[0].method,
        seeds=len(runs),
        gain=Interval.of([run.gain for run in runs]),
        forgotten=Interval.of([run.forgotten for run in runs]),
        excess=Interval.of(excesses) if len(excesses) == len(runs) else None,
        exact_match=Interval.of(exact) if exact else None,
        digit_match=Interval.of(digits) if digits else None,
        trained=runs[0].trained,
        core_changed=sum(run.core_changed for run in runs),
        core_size=sum(run.core_size for run in runs),
    )


def _curves(runs: Sequence[ProtectionRun], methods: Sequence[Method]) -> dict[int, Callable[[float], float]]:
    """Seed -> what plain fine-tuning forgets at a gain, from no training at all to the largest learning rate."""
    plain = {method.name for method in methods if method.curve == FULL}
    points: dict[int, list[tuple[float, float]]] = {}
    for run in runs:
        if run.method in plain:
            points.setdefault(run.seed, [(0.0, 0.0)]).append((run.gain, run.forgotten))
    return {seed: _interpolation(_frontier(curve)) for seed, curve in points.items()}


def _frontier(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other one beats in both gain and forgetting, in order of gain."""
    kept: list[tuple[float, float]] = []
    for gain, forgotten in sorted(points, reverse=True):
        if not kept or forgotten < kept[-1][1]:
            kept.append((gain, forgotten))
    return kept[::-1]


def _interpolation(points: Sequence[tuple[float, float]]) -> Callable[[float], float]:
    """Between points in order; below the first its value, beyond the last its value.

    Forgetting grows ever faster with the gain, so logarithms are interpolated: straight lines would make the control look
    worse than it is. From a point that forgot nothing on the line is straight.
    """

    def at(gain: float) -> float:
        if gain <= points[0][0]:
            return points[0][1]
        for (left, low), (right, high) in itertools.pairwise(points):
            if gain <= right:
                share = (gain - left) / (right - left)
                return low + (high - low) * share if min(low, high) <= 0 else low * (high / low) ** share
        return points[-1][1]

    return at
