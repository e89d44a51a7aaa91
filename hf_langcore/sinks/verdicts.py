"""What the figures of the test "sink or language?" say, in words, and no more than their intervals show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hf_langcore.sinks.rows import (
    ACTIVATIONS_MEAN,
    ACTIVATIONS_ZERO,
    CONTROLS,
    CORE,
    CORE_MEAN,
    HELD,
    ONLY,
    OUTSIDE,
    PART_MEAN,
    WITHOUT,
    Figure,
    SinkRow,
)

_HALF = 0.5
_APART = 0.25  # share of a control that may be core if it is to speak of other weights


@dataclass(frozen=True, slots=True)
class Found:
    """What is judged.

    Attributes:
        rows: Condition -> row.
        dimensions: What was taken to be the sink.
        positions: As in `SinkTest`.
    """

    rows: Mapping[str, SinkRow]
    dimensions: Sequence[int]
    positions: str


def verdicts(found: Found) -> dict[str, str]:
    """Question -> what the figures say about it."""
    rise = found.rows[CORE].rise
    if rise is None or not rise.is_above(0):
        figure = "" if rise is None else f" ({_nats(rise)})"
        return {
            "Is there an explosion?": f"Setting the core to zero does not raise the loss beyond doubt{figure}, so that there "
            "is nothing to be explained. More text gives narrower intervals."
        }
    explosion = {"Is there an explosion?": f"Setting the core to zero raises the loss by {_nats(rise)} per token."}
    questions = {
        "Does the core need the sink dimensions?": _without,
        "Is it the value or the removal?": _means,
        "Does holding the sink bring perplexity back?": _held,
        "Is it magnitude or profile?": _controls,
    }
    return {**explosion, **{question: answer(found) for question, answer in questions.items()}}


def _without(found: Found) -> str:
    without, only = found.rows[WITHOUT], found.rows[ONLY]
    if without.share is None or only.share is None:
        return f"Not tested: {without.missing}"
    part = (
        f"the {only.weights:,} weights of the core on dimension{_plural(found.dimensions)} {_listed(found.dimensions)}"
    )
    left = (
        f"Without {part}, {percent(without.share)} of the rise is left; they alone make {percent(only.share)} of it."
    )
    return f"{left} {_judged(without.share, 'Most of the rise does not need them.', 'Most of the rise needs them.')}"


def _means(found: Found) -> str:
    parts = [
        f"With the core at each tensor's mean instead of zero, {percent(_known(found.rows[CORE_MEAN].share))} of the rise is left."
    ]
    mixed, zero, mean = found.rows[PART_MEAN], found.rows[ACTIVATIONS_ZERO], found.rows[ACTIVATIONS_MEAN]
    if mixed.share is None or zero.share is None or mean.share is None:
        return f"{parts[0]} Activations and the sink part: not tested, {mixed.missing}"
    parts.append(f"With only its sink part at the mean, {percent(mixed.share)}.")
    parts.append(
        f"With all weights as they are, {_what(found)} set to zero: {percent(zero.share)} of the rise; set to their mean: "
        f"{percent(mean.share)}."
    )
    if zero.share.low > mean.share.high:
        parts.append(
            "Zeroing these activations does more harm than fixing them: their constant value is used, not what varies."
        )
    elif mean.share.low > zero.share.high:
        parts.append("Fixing these activations does more harm than zeroing them.")
    else:
        parts.append("The two intervals overlap: no difference is shown.")
    return " ".join(parts)


def _held(found: Found) -> str:
    held = found.rows[HELD]
    if held.share is None:
        return f"Not tested: {held.missing}"
    return (
        f"With the core at zero and {_what(found)} held at their mean, {percent(held.share)} of the rise is left. "
        + _judged(
            held.share,
            "Holding them does not bring most of it back: most of the damage goes another way.",
            "Holding them brings most of it back: most of the damage goes through them.",
        )
    )


def _controls(found: Found) -> str:
    rows = [found.rows[name] for name in CONTROLS]
    figures = "; ".join(f"{_short(row)} {percent(_known(row.share))}" for row in rows)
    apart = [row for row in rows if (row.overlap or 0.0) <= _APART]
    same = [f"{100 * (row.overlap or 0.0):.0f} % of those {_short(row)}" for row in rows if row not in apart]
    caveat = (
        f" Too much of some controls is the core itself to count them here ({', '.join(same)}): what they share with the core "
        "leaves few other weights to choose."
        if same
        else ""
    )
    outside = found.rows[OUTSIDE]
    alone = (
        f" The {outside.weights:,} weights of those matched in rows, columns and magnitude that lie outside the core make alone {percent(_known(outside.share))}."
        if same
        else ""
    )
    return f"Share of the rise (range over seeds): {figures}. {_verdict_of_controls(apart)}{caveat}{alone}"


def _verdict_of_controls(rows: Sequence[SinkRow]) -> str:
    above = [_short(row) for row in rows if _known(row.share).is_above(_HALF)]
    if above:
        return f"More than half of the rise comes with other weights that only share this with the core: {', '.join(above)}."
    mixed = [_short(row) for row in rows if not _known(row.share).is_below(_HALF)]
    if mixed:
        return (
            f"With some seeds more than half of the rise comes with other weights, with some less: {', '.join(mixed)}."
        )
    names = ", ".join(map(_short, rows))
    return f"None of these makes half of the rise, so that it needs more of the core than they share with it: {names}."


def _short(row: SinkRow) -> str:
    return row.condition.removesuffix(" zeroed")


def _what(found: Found) -> str:
    named = f"dimension{_plural(found.dimensions)} {_listed(found.dimensions)}"
    if found.positions == "massive":
        return f"the massive activations of {named}"
    return f"the activations of {named}, which are not massive, at all tokens"


def _judged(share: Figure, above: str, below: str) -> str:
    if share.is_above(_HALF):
        return above
    return below if share.is_below(_HALF) else "The interval reaches over one half, so that neither is shown."


def _known(figure: Figure | None) -> Figure:
    return figure or Figure(math.nan, math.nan, math.nan)


def _plural(dimensions: Sequence[int]) -> str:
    return "" if len(dimensions) == 1 else "s"


def _listed(dimensions: Sequence[int]) -> str:
    return ", ".join(map(str, dimensions))


def percent(figure: Figure) -> str:
    """A share and its interval."""
    return f"{100 * figure.value:.0f} % ({100 * figure.low:.0f} to {100 * figure.high:.0f})"


def _nats(figure: Figure) -> str:
    return f"{figure.value:.3g} nats ({figure.low:.3g} to {figure.high:.3g})"
