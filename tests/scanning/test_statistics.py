"""Intervals: paired, within languages, honest about infinity and about too little text."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hf_langcore.errors import CorpusError, InputError
from hf_langcore.scanning.losses import WindowLosses
from hf_langcore.scanning.statistics import ratio_interval, share_interval


def losses(seed: int, *, rise: float = 0.0, spread: float = 0.0, pieces: int = 40) -> WindowLosses:
    """Two languages; each piece's loss rises by `rise` per token, more or less."""
    draw = np.random.default_rng(0)
    tokens = {language: draw.integers(5, 32, pieces) for language in ("en", "zh")}
    base = {language: draw.normal(3, 1, pieces) * counts for language, counts in tokens.items()}
    more = np.random.default_rng(seed)
    return WindowLosses(
        {code: sums + more.normal(rise, spread, pieces) * tokens[code] for code, sums in base.items()}, tokens
    )


def test_pieces_are_paired() -> None:
    """What all pieces have in common has no spread, however different the pieces are."""
    found = ratio_interval(losses(1), losses(1, rise=1.0))
    assert found.low == pytest.approx(math.e)
    assert found.high == pytest.approx(math.e)
    assert found.level == 0.95


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Over many texts of one kind; a narrower level gives a narrower interval inside."""
    found = [ratio_interval(losses(0), losses(seed, rise=0.5, spread=1.0), samples=300) for seed in range(1, 101)]
    inside = sum(one.low <= math.exp(0.5) <= one.high for one in found)
    assert 86 <= inside <= 100
    half = ratio_interval(losses(0), losses(1, rise=0.5, spread=1.0), level=0.5)
    assert found[0].low < half.low < half.high < found[0].high


def test_the_same_seed_gives_the_same_interval() -> None:
    """Another one another, but not by much."""
    base, edited = losses(0), losses(1, rise=0.5, spread=1.0)
    assert ratio_interval(base, edited, seed=3) == ratio_interval(base, edited, seed=3)
    assert ratio_interval(base, edited, seed=3) != ratio_interval(base, edited, seed=4)


def test_infinite_pieces() -> None:
    """One of many is in most samples, so that the upper end is infinite; all of them make both ends so."""
    base, edited = losses(0), losses(1, rise=0.5)
    edited.nll_sums["zh"][3] = np.inf
    found = ratio_interval(base, edited)
    assert math.isinf(found.high)
    assert math.isfinite(found.low)
    edited.nll_sums["zh"][:] = np.inf
    assert math.isinf(ratio_interval(base, edited).low)


def test_share_of_a_rise() -> None:
    """A quarter is a quarter; nothing of nothing is anything."""
    base, full, part = losses(1), losses(1, rise=2.0), losses(1, rise=0.5)
    found = share_interval(base, full, part)
    assert (found.low, found.high) == (pytest.approx(0.25), pytest.approx(0.25))
    nothing = share_interval(base, base, part)
    assert (nothing.low, nothing.high) == (-math.inf, math.inf)
    broken = WindowLosses({code: np.full_like(sums, np.inf) for code, sums in full.nll_sums.items()}, full.tokens)
    assert share_interval(base, broken, part).high == 0
    assert share_interval(base, broken, broken).low == 1


def test_too_little_text_to_tell() -> None:
    """The message says how much is needed, in all and in each language."""
    few = losses(0, pieces=3)
    with pytest.raises(CorpusError, match=r"it has 6 pieces .* At least 8 pieces .* 2 in each"):
        ratio_interval(few, few)
    alone = WindowLosses(
        {"en": np.ones(9), "zh": np.ones(1)}, {"en": np.ones(9, np.int64), "zh": np.ones(1, np.int64)}
    )
    with pytest.raises(CorpusError, match=r"'zh': only one piece .*max_tokens"):
        ratio_interval(alone, alone)


def test_other_texts_are_refused() -> None:
    """Pieces that cannot be paired, and figures out of range."""
    base = losses(0)
    with pytest.raises(InputError, match="one ScoringTask"):
        ratio_interval(base, losses(0, pieces=41))
    with pytest.raises(InputError, match="level=1"):
        ratio_interval(base, base, level=1)
    with pytest.raises(InputError, match="samples=0"):
        share_interval(base, base, base, samples=0)
