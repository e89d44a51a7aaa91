"""Which rows an epoch draws: each source its count, no row twice before all have come."""

from __future__ import annotations

import logging
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_langcore.data.draws import check_mixture, counts_by_rows, counts_by_tokens, draw_general, in_one, mixed_order
from hf_langcore.errors import CorpusError, InputError

ONE = [Fraction(1)]
HALVES = [Fraction(1, 2)] * 2


@given(count=st.integers(0, 40), general=st.integers(1, 12), epoch=st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_draws_go_through_all_rows_before_any_comes_again(count: int, general: int, epoch: int) -> None:
    """Each full pass is a permutation."""
    drawn = draw_general({"g": count}, {"g": general}, epoch=epoch)["g"]
    assert len(drawn) == count
    for start in range(0, count, general):
        part = drawn[start : start + general]
        assert len(set(part.tolist())) == len(part)


def test_sources_are_drawn_each_for_itself() -> None:
    """Two sources of one size have different samples, and that of the first does not depend on the second."""
    sources = {"a": 50, "b": 50}
    both = draw_general({"a": 20, "b": 20}, sources, seed=1)
    assert both["a"].tolist() == draw_general({"a": 20}, {"a": 50}, seed=1)["a"].tolist()
    assert both["a"].tolist() != both["b"].tolist()
    assert draw_general({"a": 20, "b": 20}, sources, seed=2)["b"].tolist() != both["b"].tolist()
    joined = in_one(both, sources)
    assert joined.tolist() == [*both["a"].tolist(), *(both["b"] + 50).tolist()]


def test_counted_by_tokens_every_source_reaches_its_share() -> None:
    """Half of 3 x 20 tokens each: ten rows of three tokens, and five of seven, which are the first that are drawn."""
    sources = {"short": 40, "long": 40}
    sizes = {"short": 3, "long": 7}
    counts = counts_by_tokens(20, sources, lambda name, _: sizes[name], ratio=3, shares=HALVES, seed=4)
    assert counts == {"short": 10, "long": 5}
    assert counts_by_tokens(10, {"g": 9}, lambda *_: 1, ratio=0.1, shares=ONE) == {"g": 1}


def test_counting_follows_the_draw() -> None:
    """Rows of unequal length are added up in the order in which they are drawn."""
    lengths = np.random.default_rng(0).integers(1, 9, 30)
    counts = counts_by_tokens(
        20, {"g": 30}, lambda _, index: int(lengths[index]), ratio=2, shares=ONE, seed=3, epoch=5
    )
    drawn = draw_general(counts, {"g": 30}, seed=3, epoch=5)["g"]
    assert lengths[drawn[:-1]].sum() < 40 <= lengths[drawn].sum()


def test_rows_that_repeat_are_told_of_by_source(caplog: pytest.LogCaptureFixture) -> None:
    """Only of the source that is too small."""
    with caplog.at_level(logging.WARNING):
        counts = counts_by_rows(4, {"big": 50, "small": 2}, ratio=5, shares=HALVES)
    assert counts == {"big": 10, "small": 10}
    (record,) = caplog.records
    assert record.getMessage().startswith("The mixture needs 10 rows of small and there are 2: each comes 5 times")


def test_the_order_holds_task_and_sample() -> None:
    """All of both, shuffled by seed and epoch."""
    sample = np.array([3, 3, 7])
    order = mixed_order(7, sample, seed=1, epoch=2)
    assert sorted(order.tolist()) == sorted([*range(7), 10, 10, 14])
    assert order.dtype == np.int64
    assert order.tolist() == mixed_order(7, sample, seed=1, epoch=2).tolist()
    assert order.tolist() != mixed_order(7, sample, seed=1, epoch=3).tolist()


def test_empty_sources_are_named() -> None:
    """Without rows, or without tokens in them."""
    with pytest.raises(CorpusError, match="wiki has no rows"):
        counts_by_rows(1, {"wiki": 0}, ratio=1, shares=ONE)
    with pytest.raises(CorpusError, match="wiki has no rows"):
        counts_by_tokens(1, {"wiki": 0}, lambda *_: 1, ratio=1, shares=ONE)
    with pytest.raises(CorpusError, match="no token in any row of wiki"):
        counts_by_tokens(1, {"wiki": 3}, lambda *_: 0, ratio=1, shares=ONE)
    with pytest.raises(InputError, match="ratio"):
        check_mixture(ratio=-1)
