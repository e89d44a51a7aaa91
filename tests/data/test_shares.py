"""Sources and their shares: exact, whatever the weights."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from datasets import Dataset, DatasetDict
from hypothesis import given
from hypothesis import strategies as st

from hf_langcore.data.shares import exact, named_sources, next_source, shares_of, split_rows
from hf_langcore.errors import ConfigurationError, CorpusError, InputError

ROWS = Dataset.from_list([{"text": "a"}])
WEIGHTS = st.lists(st.one_of(st.just(0.0), st.floats(0.001, 1000)), min_size=1, max_size=6).filter(any)


def test_sources_get_names() -> None:
    """One data set, a list and a mapping."""
    assert list(named_sources(ROWS)) == ["general"]
    assert list(named_sources([ROWS, ROWS])) == ["general 1", "general 2"]
    assert list(named_sources({"b": ROWS, "a": ROWS})) == ["b", "a"]


@pytest.mark.parametrize(
    ("general", "error", "message"),
    [
        ({}, CorpusError, "names no source"),
        ([], CorpusError, "names no source"),
        ({"task": ROWS}, InputError, "name of the task rows"),
        (DatasetDict(train=ROWS, test=ROWS), CorpusError, r"splits \['test', 'train'\]"),
    ],
    ids=["no names", "no list", "task", "splits"],
)
def test_what_is_no_source_is_refused(general: Any, error: type[Exception], message: str) -> None:
    """With what came instead."""
    with pytest.raises(error, match=message):
        named_sources(general)


def test_shares_sum_to_one_exactly() -> None:
    """A tenth is a tenth, which it is not in binary numbers."""
    assert shares_of(["a", "b"], None) == [Fraction(1, 2)] * 2
    assert shares_of(["a", "b"], {"b": 0.9, "a": 0.1}) == [Fraction(1, 10), Fraction(9, 10)]
    assert shares_of(["a", "b", "c"], [1, 2, 0]) == [Fraction(1, 3), Fraction(2, 3), 0]
    assert exact(0.3) == Fraction(3, 10)


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ({"a": 1}, ConfigurationError, r"for the sources \['a'\], and the general data has \['a', 'b'\]"),
        ([1, 2, 3], ConfigurationError, "3 weights for 2 sources"),
        ([1, -1], InputError, "weight of the general source 'b'"),
        ([float("nan"), 1], InputError, "weight of the general source 'a'"),
        ([True, 1], InputError, "finite number"),
        ([0, 0], InputError, "All weights of the general data are 0"),
    ],
    ids=str,
)
def test_wrong_weights_are_refused(weights: Any, error: type[Exception], message: str) -> None:
    """And it is said of which source."""
    with pytest.raises(error, match=message):
        shares_of(["a", "b"], weights)


@given(count=st.integers(0, 500), weights=WEIGHTS)
def test_rows_are_split_by_the_largest_remainder(count: int, weights: list[float]) -> None:
    """All rows are given out, each source gets its share rounded down or up, and the largest remainders go up."""
    shares = shares_of([str(number) for number in range(len(weights))], weights)
    counts = split_rows(count, shares)
    assert sum(counts) == count
    left = [count * share - int(count * share) for share in shares]
    up = [rows > int(count * share) for rows, share in zip(counts, shares, strict=True)]
    assert all(rows - int(count * share) in {0, 1} for rows, share in zip(counts, shares, strict=True))
    assert max((rest for rest, is_up in zip(left, up, strict=True) if not is_up), default=0) <= min(
        (rest for rest, is_up in zip(left, up, strict=True) if is_up), default=1
    )


def test_equal_remainders_go_to_the_first() -> None:
    """Known cases."""
    assert split_rows(10, shares_of(["a", "b", "c"], None)) == [4, 3, 3]
    assert split_rows(16, shares_of(["a", "b"], [3, 1])) == [12, 4]
    assert split_rows(10, shares_of(["a", "b"], [0.1, 0.9])) == [1, 9]


@given(weights=WEIGHTS, rows=st.integers(1, 120))
def test_a_stream_is_never_a_row_off(weights: list[float], rows: int) -> None:
    """After every row each source has its share rounded down or up, without knowing where it will stop."""
    shares = shares_of([str(number) for number in range(len(weights))], weights)
    counts = [0] * len(shares)
    for total in range(1, rows + 1):
        counts[next_source(counts, shares)] += 1
        assert all(abs(came - share * total) < 1 for came, share in zip(counts, shares, strict=True))
