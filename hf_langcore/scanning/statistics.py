"""How sure a figure of a finite text is: paired bootstrap over pieces of text.

What is drawn again: the pieces of text (at most 32 scored tokens each), within each language, as many as there are, the same
ones for all states of the model that are compared. What is not drawn again: the languages, the model, the edit, the random
controls. So an interval says what other text of the same kind might have given for this model in these languages, and
nothing about other languages or models. Pieces of one document are treated as if they were independent, which makes
intervals a little too narrow where documents are long.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hf_langcore.errors import CorpusError, InputError
from hf_langcore.scanning.losses import LONGEST_PIECE, FloatArray, WindowLosses

FEWEST_PIECES = 8
"""Pieces of text in all languages together below which nothing can be told."""

_FEWEST_IN_LANGUAGE = 2
_SMALLEST_RISE = 1e-6  # nats; a share of less than that has no meaning


@dataclass(frozen=True, slots=True)
class Interval:
    """An interval of a figure.

    Attributes:
        low: Lower end.
        high: Upper end; may be infinite.
        level: Share of the resampled figures that lie inside, such as 0.95.
    """

    low: float
    high: float
    level: float


def ratio_interval(
    base: WindowLosses, edited: WindowLosses, *, level: float = 0.95, samples: int = 1000, seed: int = 0
) -> Interval:
    """Percentile interval of the perplexity ratio edited / base, the mean over languages being geometric.

    Args:
        base: The model as it is.
        edited: The same text with the model edited. Infinite pieces make every sample infinite that they are drawn into.
        level: Between 0 and 1.
        samples: How often the pieces are drawn.
        seed: Of the draws. The same seed draws the same pieces for every edit of the same text.

    Raises:
        CorpusError: Fewer than 8 pieces in all, or a language with only one.
        InputError: The two were not measured on the same text, or `level` or `samples` are out of range.
    """
    _require_alike(base, edited)
    _require_usual(level, samples)
    rise = _resampled(edited, samples, seed) - _resampled(base, samples, seed)
    low, high = _ends(rise, level)
    return Interval(_exp(low), _exp(high), level)


def share_interval(
    base: WindowLosses,
    full: WindowLosses,
    part: WindowLosses,
    *,
    level: float = 0.95,
    samples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Percentile interval of the share of a rise in loss: (nll(part) - nll(base)) / (nll(full) - nll(base)).

    Samples in which the whole edit raises the loss by less than 1e-6 nats have no share: they count as infinite in both
    directions, so that an interval over such samples is unbounded rather than wrong.

    Args:
        base: The model as it is.
        full: With the whole edit.
        part: With a part of it, or with the edit in a different form.
        level: Between 0 and 1.
        samples: How often the pieces are drawn.
        seed: Of the draws.

    Raises:
        CorpusError: The text is too short.
        InputError: The three were not measured on the same text.
    """
    _require_alike(base, full)
    _require_alike(base, part)
    _require_usual(level, samples)
    start = _resampled(base, samples, seed)
    whole = _resampled(full, samples, seed) - start
    piece = _resampled(part, samples, seed) - start
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(np.isinf(whole), np.where(np.isinf(piece), 1.0, 0.0), piece / whole)
    useless = ~(whole > _SMALLEST_RISE)
    low, _ = _ends(np.where(useless, -np.inf, share), level)
    _, high = _ends(np.where(useless, np.inf, share), level)
    return Interval(low, high, level)


def require_enough_text(losses: WindowLosses) -> None:
    """Refuse a text that no interval can be drawn from.

    Raises:
        CorpusError: Fewer than 8 pieces in all, or a language with only one; the message says how much is needed.
    """
    counts = {language: len(sums) for language, sums in losses.nll_sums.items()}
    total = sum(counts.values())
    needed = (
        f"At least {FEWEST_PIECES} pieces of text in all languages together and {_FEWEST_IN_LANGUAGE} in each are needed, a "
        f"piece being a document, or {LONGEST_PIECE} tokens of a longer one: about {FEWEST_PIECES * LONGEST_PIECE} scored "
        "tokens of running text, or 8 short sentences. Pass more texts, or raise max_tokens."
    )
    if total < FEWEST_PIECES:
        raise CorpusError(
            f"The text is too short to tell: it has {total} piece{'' if total == 1 else 's'} "
            f"({losses.num_tokens} scored tokens). {needed}"
        )
    alone = [language for language, count in counts.items() if count < _FEWEST_IN_LANGUAGE]
    if alone:
        raise CorpusError(
            f"The text is too short to tell in {', '.join(map(repr, alone[:5]))}: only one piece "
            f"({int(losses.tokens[alone[0]].sum())} scored tokens). {needed}"
        )


def _require_alike(base: WindowLosses, other: WindowLosses) -> None:
    same = base.tokens.keys() == other.tokens.keys() and all(
        np.array_equal(base.tokens[language], other.tokens[language]) for language in base.tokens
    )
    if not same:
        raise InputError(
            "The losses were measured on different texts, so that their pieces cannot be paired. Measure all states of the "
            "model with one ScoringTask."
        )
    require_enough_text(base)


def _require_usual(level: float, samples: int) -> None:
    if not 0 < level < 1 or samples < 1:
        raise InputError(f"level is between 0 and 1 and samples at least 1, got level={level!r}, samples={samples!r}.")


def _resampled(losses: WindowLosses, samples: int, seed: int) -> FloatArray:
    """Mean loss over languages in each sample: float64, (samples,)."""
    means = [
        _means(losses.nll_sums[language], tokens, _draws(len(tokens), samples, seed + place))
        for place, (language, tokens) in enumerate(losses.tokens.items())
    ]
    return np.asarray(np.mean(means, axis=0))


@lru_cache(maxsize=64)
def _draws(pieces: int, samples: int, seed: int) -> NDArray[np.float64]:
    """How often each piece is drawn in each sample: (samples, pieces)."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(pieces, np.full(pieces, 1 / pieces), size=samples).astype(np.float64)


def _means(sums: FloatArray, tokens: NDArray[np.int64], draws: FloatArray) -> FloatArray:
    infinite = ~np.isfinite(sums)
    means = draws @ np.where(infinite, 0.0, sums) / (draws @ tokens)
    return np.where(draws @ infinite > 0, np.inf, means)


def _ends(values: FloatArray, level: float) -> tuple[float, float]:
    """Quantiles that are values of the sample, the outer ones where none is exact; infinity is no obstacle."""
    ordered = np.sort(values)
    last = len(ordered) - 1
    place = (1 - level) / 2 * last
    return float(ordered[math.floor(place)]), float(ordered[last - math.floor(place)])


def _exp(value: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.exp(value))
