"""Rice streams: exact, near the entropy bound, and sure of what they read."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_langcore.masks.rice import Stream, StreamError, read, write


def written(values: np.ndarray) -> tuple[Stream, np.ndarray]:
    stream, parts = write(values, int(values.sum()))
    return stream, np.concatenate(parts)


def positions_of(stream: Stream, data: np.ndarray) -> list[int]:
    return [int(one) for block in read(stream, data) for one in block]


@given(st.integers(1, 400), st.data())
def test_round_trip_of_any_set(size: int, data: st.DataObject) -> None:
    """Sets chosen by hypothesis, not by chance: runs, both ends, single entries."""
    chosen = sorted(data.draw(st.sets(st.integers(0, size - 1), min_size=1)))
    stream, stored = written(np.isin(np.arange(size), chosen))
    assert stream.is_possible()
    assert stored.size == stream.nbytes
    assert positions_of(stream, stored) == chosen


@pytest.mark.parametrize("density", [1e-6, 0.0005, 0.01, 0.05, 0.3, 0.5, 0.95])
def test_long_streams_are_read_over_several_blocks(density: float) -> None:
    """Clusters and gaps longer than the reader's block, low parts of more than a byte among them."""
    values = np.random.default_rng(0).random(3_000_000) < density
    values[[0, 2_999_999]] = True
    stream, stored = written(values)
    assert np.array_equal(np.concatenate(list(read(stream, stored))), np.flatnonzero(values))


@pytest.mark.parametrize("density", [0.01, 0.03, 0.05])
def test_size_is_near_the_entropy_bound(density: float) -> None:
    """At most three hundredths above what any code needs for evenly spread positions."""
    values = np.random.default_rng(0).random(1_000_000) < density
    share = values.mean()
    entropy = -values.size * (share * math.log2(share) + (1 - share) * math.log2(1 - share)) / 8
    assert written(values)[0].nbytes <= 1.03 * entropy


@pytest.mark.parametrize(
    "changes",
    [{"count": 0}, {"count": 1001}, {"low_bits": -1}, {"low_bits": 6}, {"high_bytes": 0}, {"high_bytes": 99}],
)
def test_impossible_descriptions(changes: dict[str, int]) -> None:
    """Counts beyond the size, shifts that could overflow, and unary parts longer than any."""
    stream = written(np.arange(1000) % 31 == 0)[0]
    assert stream.is_possible()
    assert not replace(stream, **changes).is_possible()


def test_what_is_wrong_in_a_stream_is_refused() -> None:
    """Too many and too few positions, positions beyond the end, stray bits, bytes that say nothing."""
    stream, data = written(np.arange(1000) % 31 == 0)
    high = stream.high_bytes
    full, stray = data.copy(), data.copy()
    full[:high] = 0xFF
    stray[-1] |= 0x80
    empty = data.copy()
    empty[high - 1] = 0
    cases = {
        "more positions": (stream, full),
        "beyond its last": (stream, stray),
        "declares 33 positions": (stream, empty),
        "outside": (replace(stream, size=990), data),
        "say nothing": (replace(stream, high_bytes=high + 1), np.insert(data, high, 0).astype(np.uint8)),
    }
    for problem, (described, stored) in cases.items():
        with pytest.raises(StreamError, match=problem):
            positions_of(described, stored)
