"""Figures of one condition: over the text, and over the seeds of a control."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hf_langcore.scanning.losses import WindowLosses
from hf_langcore.sinks.rows import Figure, row_of, row_of_seeds

TOKENS = {"en": np.full(20, 10), "de": np.full(12, 5)}


def losses(level: float, *, spread: float = 0.3, seed: int = 0) -> WindowLosses:
    generator = np.random.default_rng(seed)
    sums = {code: (level + spread * generator.random(len(tokens))) * tokens for code, tokens in TOKENS.items()}
    return WindowLosses(sums, TOKENS)


def test_rise_and_share_with_their_intervals() -> None:
    base, core, part = losses(2.0), losses(4.0, seed=1), losses(3.0, seed=2)
    row = row_of("part", 7, base, core, part)
    rise, whole = part.mean_nll() - base.mean_nll(), core.mean_nll() - base.mean_nll()
    assert (row.condition, row.weights, row.over) == ("part", 7, "text")
    assert row.rise.value == pytest.approx(rise)
    assert row.share.value == pytest.approx(rise / whole)
    assert row.rise.low < rise < row.rise.high
    assert row.rise.high - row.rise.low < 0.3
    assert row.share.low < rise / whole < row.share.high
    assert row.perplexity == pytest.approx(part.perplexity)


def test_more_spread_gives_wider_intervals() -> None:
    base, core = losses(2.0, spread=0.0), losses(4.0, spread=0.0)
    widths = []
    for spread in (0.1, 1.0):
        share = row_of("part", 1, base, core, losses(3.0, spread=spread, seed=5)).share
        widths.append(share.high - share.low)
    assert widths[1] > 5 * widths[0]


def test_a_destroyed_model_is_infinite_and_its_share_is_whole() -> None:
    base, broken = losses(2.0), losses(2.0)
    broken.nll_sums["en"][:] = math.inf
    row = row_of("core", 1, base, broken, broken)
    assert (row.perplexity, row.rise.value, row.share.value) == (math.inf, math.inf, 1.0)
    assert row_of("part", 1, base, broken, losses(3.0)).share.value == 0.0


def test_seeds_give_their_mean_smallest_and_largest() -> None:
    base, core = losses(2.0, spread=0.0), losses(4.0, spread=0.0)
    row = row_of_seeds("control", 3, base, core, [losses(level, spread=0.0) for level in (2.5, 2.1, 3.0)])
    assert row.over == "seeds"
    assert (row.rise.value, row.rise.low, row.rise.high) == (
        pytest.approx(1.6 / 3), pytest.approx(0.1), pytest.approx(1.0),
    )  # fmt: skip
    assert (row.share.low, row.share.high) == (pytest.approx(0.05), pytest.approx(0.5))
    assert row.perplexity == pytest.approx(math.exp(7.6 / 3))


def test_above_and_below_speak_of_the_whole_interval() -> None:
    assert Figure(0.6, 0.55, 0.7).is_above(0.5)
    assert not Figure(0.6, 0.5, 0.7).is_above(0.5)
    assert Figure(0.4, 0.3, 0.45).is_below(0.5)
    assert not Figure(0.4, 0.3, 0.5).is_below(0.5)
