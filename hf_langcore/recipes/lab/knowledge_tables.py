"""Figures of facts, minimal pairs and perplexity, as they are and as the share that is left of what was above chance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_langcore.knowledge import Estimate, KnowledgeReport
from hf_langcore.knowledge.bootstrap import draws
from hf_langcore.knowledge.scores import lifts
from hf_langcore.report.parts import Cell, Curves, Spread, Table

_RESAMPLES = 1000
_ENDS = (2.5, 97.5)
_HALF = 0.5

MEASURES = {
    "facts right": "facts, accuracy",
    "lift": "facts, lift in nats",
    "pairs right": "minimal pairs, accuracy",
    "pairs right per byte": "minimal pairs, accuracy per byte",
    "margin": "minimal pairs, margin in nats",
    "loss": "loss",
}


@dataclass(frozen=True, slots=True)
class Measured:
    """One state of the model.

    Attributes:
        report: Facts and pairs.
        losses: Language -> nats per token.
    """

    report: KnowledgeReport
    losses: Mapping[str, float]

    def values(self, measure: str) -> tuple[list[float], list[str]]:
        """What a measure says of each entry above chance, and the entry's name; losses are not made of entries."""
        if measure == "lift":
            found = lifts(self.report.facts)
            return [value for _, value in found], [name for name, _ in found]
        entries = self.report.facts if measure == "facts right" else self.report.pairs
        if measure == "margin":
            return [one.margin() for one in entries], [one.name for one in entries]
        per_byte = measure == "pairs right per byte"
        return [one.credit(per_byte=per_byte) - one.chance for one in entries], [one.name for one in entries]

    def loss(self) -> float:
        """Mean over the languages of the facts and pairs that are measured; over all if there are none."""
        shared = [self.losses[code] for code in self.report.languages if code in self.losses]
        values = shared or list(self.losses.values())
        return sum(values) / len(values)


@dataclass(frozen=True, slots=True)
class Condition:
    """A region of one size, set to zero.

    Attributes:
        region: "core", "bottom" or "random".
        fraction: Share of each tensor.
        runs: One, or one for each seed.
    """

    region: str
    fraction: float
    runs: tuple[Measured, ...]


def figures_table(base: Measured, found: Sequence[Condition]) -> Table:
    """What was measured, as it is."""
    rows = [_figures("unedited", (base,))]
    rows += [_figures(_name(one), one.runs) for one in found]
    return Table(
        "figures",
        "Facts, minimal pairs and perplexity",
        ("set to zero", "facts right, %", "lift, nats", "pairs right, %", "per byte, %", "margin, nats", "perplexity"),
        tuple(rows),
        note="95 % intervals over entries; per byte: log-likelihoods of the two sentences divided by their bytes; random regions are the mean over seeds. Chance is 25 % of facts, 50 % of pairs, 0 nats. "
        "Perplexity is that of the mean loss over the languages of the entries.",
        log_bars=("perplexity",),
    )


def share_table(base: Measured, found: Sequence[Condition], vocabulary: int) -> Table:
    """What is left of what was above chance."""
    rows = []
    for one in found:
        shares = [share_left(base, one, measure, vocabulary) for measure in MEASURES]
        rows.append((_name(one), *(_hundredfold(share) for share in shares)))
    return Table(
        "left",
        "What is left of what the unedited model has above chance, %",
        ("set to zero", *MEASURES.values()),
        tuple(rows),
        note="Empty where the unedited model itself is not above chance, by its interval: what is not there cannot be lost. Below "
        "zero is worse than chance.",
    )


def share_curves(base: Measured, found: Sequence[Condition], vocabulary: int) -> Iterator[Curves]:
    """One figure for each region: what is left, by size."""
    measures = [name for name in MEASURES if is_above_chance(base, name)]
    for region in dict.fromkeys(one.region for one in found):
        chosen = [one for one in found if one.region == region]
        lines: dict[str, tuple[float | None, ...]] = {}
        bands: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {}
        for measure in measures:
            shares = [share_left(base, one, measure, vocabulary) for one in chosen]
            lines[MEASURES[measure]] = (100.0, *(None if one is None else 100 * one.value for one in shares))
            known = [one for one in shares if one is not None]
            if measure != "loss" and len(known) == len(shares):
                low, high = ((100.0, *(100 * getattr(one, end) for one in known)) for end in ("low", "high"))
                bands[MEASURES[measure]] = (low, high)
        yield Curves(
            f"left_{region}",
            f"What is left without the {region if region == 'core' else region + ' weights'}",
            "share of every tensor set to zero, %",
            "left of what was above chance, %",
            x=(0.0, *(100 * one.fraction for one in chosen)),
            lines=lines,
            bands=bands,
            level=0.0,
            note="Bands are 95 % intervals over entries; the level is chance.",
        )


def language_table(base: Measured, core: Condition, single: Mapping[str, Measured]) -> Table:
    """Language by language: unedited, without the smallest core, and without the regions of single languages."""
    rows = []
    for code in base.report.languages:
        rows += [_language_row(code, "nothing", base), _language_row(code, _name(core), core.runs[0])]
        rows += [
            _language_row(code, f"monolingual region of {other}", measured)
            for other, measured in single.items()
            if other == code
        ]
        rest = [measured for other, measured in single.items() if other != code]
        if rest and code in single:
            rows.append(_language_row(code, "monolingual regions of the others, mean", *rest))
    return Table(
        "languages",
        "Language by language",
        (
            "language: set to zero",
            "facts right, %",
            "lift, nats",
            "pairs right, %",
            "per byte, %",
            "margin, nats",
            "loss, nats per token",
        ),
        tuple(rows),
        note="95 % intervals over the entries of the language. With 40 facts and about as many pairs per language they are wide.",
    )


def verdicts(base: Measured, found: Sequence[Condition], vocabulary: int) -> list[str]:
    """What the intervals allow to be said, no more."""
    lacking = [MEASURES[name] for name in MEASURES if not is_above_chance(base, name)]
    texts = []
    if lacking:
        texts.append(
            f"**The unedited model is not above chance in: {'; '.join(lacking)}** (95 % interval). Nothing can be said of the loss of "
            "what it does not have; a model of a few million weights knows next to no facts."
        )
    core = [one for one in found if one.region == "core"]
    halves = {
        MEASURES[name]: _first_below(base, core, name, vocabulary) for name in MEASURES if is_above_chance(base, name)
    }
    said = [f"{name}: {f'at {100 * at:g} %' if at is not None else 'at no size'}" for name, at in halves.items()]
    if said:
        texts.append(f"Smallest core whose removal leaves less than half of what was above chance: {'; '.join(said)}.")
    return texts


def is_above_chance(measured: Measured, measure: str) -> bool:
    """Whether the whole interval of a measure lies above chance; of a loss always."""
    if measure == "loss":
        return True
    values, names = measured.values(measure)
    if not values or not np.isfinite(values).all():
        return False
    means = _means(np.asarray(values), draws(names, resamples=_RESAMPLES, seed=0))
    return bool(np.percentile(means, _ENDS[0]) > 0)


def share_left(base: Measured, one: Condition, measure: str, vocabulary: int) -> Spread | None:
    """The share of what the unedited model has above chance; None where it has nothing."""
    if measure == "loss":
        if base.loss() >= math.log(vocabulary):
            return None
        shares = [_share_of_loss(base.loss(), run.loss(), vocabulary) for run in one.runs]
        return Spread(sum(shares) / len(shares), min(shares), max(shares))
    if not is_above_chance(base, measure):
        return None
    before, names = base.values(measure)
    after = np.mean([run.values(measure)[0] for run in one.runs], axis=0)
    if not np.isfinite(after).all():
        return None
    weights = draws(names, resamples=_RESAMPLES, seed=0)
    drawn = _means(after, weights) / _means(np.asarray(before), weights)
    low, high = np.percentile(drawn, _ENDS)
    return Spread(float(np.mean(after) / np.mean(before)), float(low), float(high))


def _share_of_loss(before: float, after: float, vocabulary: int) -> float:
    guessing = math.log(vocabulary)
    return (guessing - after) / (guessing - before)


def _means(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    means: NDArray[np.float64] = (weights @ values) / weights.sum(axis=1)
    return means


def _first_below(base: Measured, core: Sequence[Condition], measure: str, vocabulary: int) -> float | None:
    for one in core:
        share = share_left(base, one, measure, vocabulary)
        if share is not None and share.value < _HALF:
            return one.fraction
    return None


def _name(one: Condition) -> str:
    return f"{one.region}, {100 * one.fraction:g} %"


def _figures(name: str, runs: Sequence[Measured]) -> tuple[Cell, ...]:
    losses = [run.loss() for run in runs]
    return (name, *_knowledge_cells(runs, None), math.exp(min(sum(losses) / len(losses), 700.0)))


def _language_row(code: str, name: str, *runs: Measured) -> tuple[Cell, ...]:
    losses = [run.losses[code] for run in runs if code in run.losses]
    loss = sum(losses) / len(losses) if losses else None
    return (f"{code}: {name}", *_knowledge_cells(runs, code), loss)


def _knowledge_cells(runs: Sequence[Measured], code: str | None) -> list[Cell]:
    """Means over the runs; so are the ends of the intervals, which are those of one run."""
    reports = [run.report for run in runs]
    return [
        _mean([one.accuracy("facts", language=code) for one in reports], 100),
        _mean([one.lift(language=code) for one in reports], 1),
        _mean([one.accuracy("pairs", language=code) for one in reports], 100),
        _mean([one.accuracy("pairs", language=code, per_byte=True) for one in reports], 100),
        _mean([one.margin("pairs", language=code) for one in reports], 1),
    ]


def _mean(estimates: Sequence[Estimate | None], factor: float) -> Cell:
    known = [one for one in estimates if one is not None]
    if not known:
        return None
    ends = [[getattr(one, end) for one in known] for end in ("value", "low", "high")]
    return Spread(*(factor * sum(each) / len(each) for each in ends))


def _hundredfold(share: Spread | None) -> Cell:
    return None if share is None else Spread(*(100 * each for each in (share.value, share.low, share.high)))
