"""Reading Elias-Fano coding, the form of sparse tensors in format version 1.

The sorted positions of the True entries are split into low bits, stored plainly as bit planes, and high bits, stored in
unary.

Source: P. Elias, Efficient storage and retrieval by content and address of static files, 1974; R. M. Fano, On the
number of bits required to implement an associative memory, 1971.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hf_langcore.masks.bits import Bytes
from hf_langcore.masks.rice import Positions, StreamError, low_parts

_BLOCK = 1 << 12  # bytes of the unary part that are decoded at a time, so that they stay in the cache


def low_bits_of(size: int, count: int) -> int:
    """The number of low bits that the encoder chose."""
    return max(1, (size // count).bit_length() - 1)


def read(size: int, count: int, high: Bytes, low: Bytes) -> Iterator[Positions]:
    """The positions in blocks, increasing.

    Args:
        size: Number of entries of the tensor.
        count: Number of positions.
        high: uint8, the unary part.
        low: uint8 of shape (number of low bits, bytes of `count` bits).

    Raises:
        StreamError: The positions are fewer or more than declared, do not increase or lie outside.
    """
    if count % 8 and (low[:, -1] >> count % 8).any():
        raise StreamError("it holds bits beyond its last position")
    ramp = np.arange(_BLOCK * 8)
    done, last = 0, -1
    for start in range(0, high.size, _BLOCK):
        positions = np.flatnonzero(np.unpackbits(high[start : start + _BLOCK], bitorder="little").view(np.bool_))
        found = positions.size
        if done + found > count:
            raise StreamError("it holds more positions than it declares")
        if not found:
            continue
        positions -= ramp[:found]
        positions += start * 8 - done
        positions <<= len(low)
        positions += low_parts(low, done, found)
        if positions[0] <= last or positions[-1] >= size or (positions[1:] <= positions[:-1]).any():
            raise StreamError("its positions do not increase or lie outside the tensor")
        done, last = done + found, int(positions[-1])
        yield positions
    if done != count:
        raise StreamError(f"it declares {count} positions and holds {done}")
