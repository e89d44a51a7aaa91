"""One figure and what follows from it."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_langcore.evaluation import LanguageScore
from hf_langcore.evaluation.language_score import exp_or_inf, number_or_inf


def test_figures() -> None:
    """Perplexity from nats per token; bits per byte from nats, tokens and bytes."""
    score = LanguageScore(math.log(8), 10, 20)
    assert score.perplexity == pytest.approx(8)
    assert score.bits_per_byte == pytest.approx(1.5), "10 tokens of 3 bits are 30 bits in 20 bytes"
    assert LanguageScore(1.0, 10).bits_per_byte is None
    assert LanguageScore(math.inf, 10, 20).bits_per_byte == math.inf


def test_infinity() -> None:
    """What is no float is infinite, and infinity is a word in JSON."""
    assert exp_or_inf(1000.0) == math.inf
    assert (number_or_inf(math.inf), number_or_inf(1.5)) == ("inf", 1.5)


@given(st.floats(0, 2000) | st.just(math.inf), st.integers(1, 10**9), st.none() | st.integers(1, 10**9))
def test_round_trip(nll: float, tokens: int, size: int | None) -> None:
    """As JSON and back."""
    score = LanguageScore(nll, tokens, size)
    assert LanguageScore.from_dict(json.loads(json.dumps(score.to_dict(), allow_nan=False))) == score


def test_older_reports() -> None:
    """Those had no bytes, and need none."""
    assert LanguageScore.from_dict({"nll": "inf", "perplexity": "inf", "tokens": 3}) == LanguageScore(math.inf, 3)
    assert "bytes" not in LanguageScore(1.0, 3).to_dict()
