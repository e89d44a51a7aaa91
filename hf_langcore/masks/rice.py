"""Rice coding of increasing positions in plain numpy.

The gaps between neighbouring positions are split into low bits, stored plainly as bit planes, and the rest, stored in
unary. For random positions that is within about two hundredths of the entropy bound, and positions that do not increase
cannot be expressed.

Source: S. W. Golomb, Run-length encodings, 1966; R. F. Rice, Some practical universal noiseless coding techniques, 1979.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_langcore.masks.bits import Bools, Bytes

Positions = NDArray[np.int64]

_SPAN = 1 << 20  # entries that a block of the decoder covers, so that what it writes stays in the cache
_SMALLEST, _LARGEST = 1 << 9, 1 << 13  # bytes of the unary part that are decoded at a time
_BYTE = 8
_DENSE = 3  # above a third, low bits save nothing


class StreamError(ValueError):
    """A stream contradicts its description; the message says how."""


@dataclass(frozen=True, slots=True)
class Stream:
    """What must be known to read a stream.

    Attributes:
        size: Number of entries, of which `count` are stored.
        count: Number of positions.
        low_bits: Number of bit planes.
        high_bytes: Bytes of the unary part, which comes first.
    """

    size: int
    count: int
    low_bits: int
    high_bytes: int

    @property
    def nbytes(self) -> int:
        """Bytes of the whole stream."""
        return self.high_bytes + self.low_bits * byte_count(self.count)

    def is_possible(self) -> bool:
        """Whether an encoder could have written it: then no arithmetic on it overflows, and its size is bounded."""
        if not (0 < self.count <= self.size and self.low_bits >= 0 and self.high_bytes > 0):
            return False
        if self.low_bits and (self.low_bits >= self.size.bit_length() or self.count << self.low_bits > self.size):
            return False
        return self.high_bytes <= byte_count(self.count + (self.size >> self.low_bits))


def write(values: Bools, count: int) -> tuple[Stream, list[Bytes]]:
    """Encode the True entries, of which there are `count`, at least one: the description and the parts to be joined."""
    size = values.size
    if count * _DENSE > size:  # without low bits a stream is the packed bits up to the last position
        bits = np.packbits(values, bitorder="little")
        used = int(np.flatnonzero(bits)[-1]) + 1
        return Stream(size, count, 0, used), [bits[:used]]
    gaps = np.diff(np.flatnonzero(values), prepend=-1)
    gaps -= 1
    low_bits = _low_bits(gaps, size)
    ends = gaps >> low_bits
    ends += 1
    np.cumsum(ends, out=ends)
    unary = np.zeros(int(ends[-1]), dtype=np.bool_)
    unary[ends - 1] = True
    parts = [np.packbits(unary, bitorder="little")]
    low: Any = gaps.astype(np.uint8 if low_bits <= _BYTE else np.uint64)
    for plane in range(low_bits):
        bit = low.dtype.type(1 << plane)
        parts.append(np.packbits(low & bit, bitorder="little"))
    return Stream(size, count, low_bits, parts[0].size), parts


def read(stream: Stream, data: Bytes) -> Iterator[Positions]:
    """The positions in blocks, increasing.

    Args:
        stream: A possible description.
        data: `stream.nbytes` bytes.

    Raises:
        StreamError: The positions are fewer or more than declared or lie outside, or stray bits are set.
    """
    high = data[: stream.high_bytes]
    planes = data[stream.high_bytes :].reshape(stream.low_bits, byte_count(stream.count))
    if stream.count % 8 and (planes[:, -1:] >> stream.count % 8).any():
        raise StreamError("it holds bits beyond its last position")
    step = min(max(_SPAN * high.size // stream.size, _SMALLEST), _LARGEST)
    ramp = np.arange(min(step * 8, stream.count))
    ramp *= (1 << stream.low_bits) - 1
    done, low_sum = 0, 0
    for start in range(0, high.size, step):
        positions = np.flatnonzero(np.unpackbits(high[start : start + step], bitorder="little").view(np.bool_))
        found = positions.size
        if done + found > stream.count:
            raise StreamError("it holds more positions than it declares")
        if not found:
            continue
        # The k-th position, counted from 0 over all blocks, is (unary_k - k << low_bits) + low_0 + ... + low_k + k.
        low = low_parts(planes, done, found)
        low[0] += low_sum
        np.cumsum(low, out=low)
        low_sum = int(low[-1])
        positions <<= stream.low_bits
        positions -= ramp[:found]
        positions += low
        positions += (start * 8 - done << stream.low_bits) + done
        if positions[-1] >= stream.size:
            raise StreamError("its positions lie outside the tensor")
        done += found
        yield positions
    if done != stream.count:
        raise StreamError(f"it declares {stream.count} positions and holds {done}")
    if not high[-1]:
        raise StreamError("it ends with bytes that say nothing")


def byte_count(bits: int) -> int:
    """Bytes that hold so many bits."""
    return (bits + 7) // 8


def _low_bits(gaps: Positions, size: int) -> int:
    """The number of low bits that makes the stream smallest, near the one that is right for evenly spread positions."""
    largest = (size // gaps.size).bit_length() - 1
    costs = {bits: gaps.size * bits + int((gaps >> bits).sum()) for bits in range(max(largest - 2, 0), largest + 1)}
    return min(costs, key=lambda bits: (costs[bits], bits))


def low_parts(planes: Bytes, start: int, count: int) -> Positions:
    """The low parts of `count` positions from the `start`-th on."""
    skipped = start % 8
    dtype: Any = np.uint8 if len(planes) <= _BYTE else np.int64
    low: NDArray[Any] = np.zeros(skipped + count, dtype=dtype)
    for plane, bits in enumerate(planes):
        values = np.unpackbits(bits[start // 8 :], count=low.size, bitorder="little").astype(dtype, copy=False)
        values <<= dtype(plane)
        low |= values
    return low[skipped:].astype(np.int64)
