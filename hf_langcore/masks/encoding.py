"""Elias-Fano coding of sparse boolean tensors in plain numpy.

The sorted positions of the True entries are split into low bits, stored plainly as bit planes, and high bits,
stored in unary: within about a tenth of the entropy bound. Dense masks keep their packed bits, and masks that
are nearly full store their False entries.

Source: P. Elias, Efficient storage and retrieval by content and address of static files, 1974; R. M. Fano, On the
number of bits required to implement an associative memory, 1971.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hf_langcore.errors import CoreMaskFormatError
from hf_langcore.masks.bits import Bools, Bytes, PackedBits

Kind = Literal["empty", "bits", "elias-fano"]

MAX_SIZE = 1 << 36  # entries of one tensor; a header that declares more is taken for damaged
_DENSE = 4  # above a quarter, packed bits are no larger
_BLOCK = 1 << 12  # bytes of the unary part that are decoded at a time, so that they stay in the cache


@dataclass(frozen=True, slots=True)
class Entry:
    """How one tensor is stored.

    Attributes:
        shape: Shape of the boolean tensor.
        count: Number of entries that are stored: the True ones, or the False ones if `inverted`.
        kind: "empty" stores nothing, "bits" one array `bits`, "elias-fano" the arrays `high` and `low`.
        inverted: The stored entries are the False ones.
        low_bits: Number of bit planes of "elias-fano".
    """

    shape: tuple[int, ...]
    count: int
    kind: Kind
    inverted: bool = False
    low_bits: int = 0

    @property
    def size(self) -> int:
        """Number of entries of the tensor."""
        return math.prod(self.shape)

    def part_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the uint8 arrays that this entry must bring."""
        if self.kind == "empty":
            return {}
        if self.kind == "bits":
            return {"bits": (_bytes(self.size),)}
        high = _bytes(self.count + (self.size >> self.low_bits) + 1)
        return {"high": (high,), "low": (self.low_bits, _bytes(self.count))}


def encode(mask: PackedBits) -> tuple[Entry, dict[str, Bytes]]:
    """The smallest form of `mask`: its description and its arrays."""
    count, size = mask.count(), mask.size
    inverted = 2 * count > size
    if inverted:
        mask, count = ~mask, size - count
    if count == 0:
        return Entry(mask.shape, 0, "empty", inverted), {}
    if count * _DENSE > size:
        return Entry(mask.shape, count, "bits", inverted), {"bits": mask.data}
    low_bits = _low_bits(size, count)
    positions = np.flatnonzero(mask.to_bool())
    unary = np.zeros(count + (size >> low_bits) + 1, dtype=np.bool_)
    unary[(positions >> low_bits) + np.arange(count)] = True
    low = np.stack([np.packbits(positions >> plane & 1 != 0, bitorder="little") for plane in range(low_bits)])
    return (
        Entry(mask.shape, count, "elias-fano", inverted, low_bits),
        {"high": np.packbits(unary, bitorder="little"), "low": low},
    )


def decode(name: str, entry: Entry, parts: dict[str, Bytes]) -> PackedBits:
    """Rebuild a mask, checking everything that the arrays could get wrong.

    Raises:
        CoreMaskFormatError: Sizes, counts or positions contradict each other.
    """
    check_entry(name, entry)
    for part, shape in entry.part_shapes().items():
        if part not in parts or parts[part].shape != shape or parts[part].dtype != np.uint8:
            got = f"{parts[part].dtype} {parts[part].shape}" if part in parts else "nothing"
            raise _damaged(name, f"its array {part!r} should be uint8 {shape}, the file holds {got}")
    if entry.kind == "elias-fano":
        mask = PackedBits.from_bool(_decode_positions(name, entry, parts).reshape(entry.shape))
    elif entry.kind == "bits":
        mask = _checked_bits(name, entry, parts["bits"])
    else:
        mask = PackedBits(np.zeros(_bytes(entry.size), dtype=np.uint8), entry.shape)
    return ~mask if entry.inverted else mask


def check_entry(name: str, entry: Entry) -> None:
    """Refuse a description that no encoder writes, before anything of its size is allocated.

    Raises:
        CoreMaskFormatError: It contradicts itself.
    """
    if entry.kind not in get_args(Kind) or not isinstance(entry.inverted, bool):
        raise _damaged(name, f"there is no form {entry.kind!r} with inverted = {entry.inverted!r}")
    if any(side < 0 for side in entry.shape) or entry.size > MAX_SIZE:
        raise _damaged(name, f"the shape {list(entry.shape)} is impossible")
    if not 0 <= 2 * entry.count <= entry.size:
        raise _damaged(name, f"{entry.count} stored entries do not fit the shape {list(entry.shape)}")
    if entry.kind == "elias-fano":
        fits = entry.count > 0 and entry.low_bits == _low_bits(entry.size, entry.count)
    else:
        fits = entry.low_bits == 0 and (entry.kind == "empty") == (entry.count == 0)
    if not fits:
        raise _damaged(name, f"{entry.kind} with {entry.count} entries and {entry.low_bits} low bits is contradictory")


def _checked_bits(name: str, entry: Entry, data: Bytes) -> PackedBits:
    mask = PackedBits(data, entry.shape)
    if mask.count() != entry.count or (entry.size % 8 and data[-1] >> entry.size % 8):
        raise _damaged(name, f"it should hold {entry.count} entries and holds another number")
    return mask


def _decode_positions(name: str, entry: Entry, parts: dict[str, Bytes]) -> Bools:
    if entry.count % 8 and (parts["low"][:, -1] >> entry.count % 8).any():
        raise _damaged(name, "it holds bits beyond its last position")
    low = _low_parts(parts["low"], entry.count)
    chosen = np.zeros(entry.size, dtype=np.bool_)
    ramp = np.arange(_BLOCK * 8)
    done, last = 0, -1
    for start in range(0, parts["high"].size, _BLOCK):
        ones = np.flatnonzero(np.unpackbits(parts["high"][start : start + _BLOCK], bitorder="little").view(np.bool_))
        if done + ones.size > entry.count:
            raise _damaged(name, "it holds more positions than it declares")
        if not ones.size:
            continue
        positions = ((ones - ramp[: ones.size] + (start * 8 - done)) << entry.low_bits) + low[done : done + ones.size]
        if positions[0] <= last or positions[-1] >= entry.size or (positions[1:] <= positions[:-1]).any():
            raise _damaged(name, "its positions do not increase or lie outside the tensor")
        chosen[positions] = True
        done, last = done + ones.size, int(positions[-1])
    if done != entry.count:
        raise _damaged(name, f"it declares {entry.count} positions and holds {done}")
    return chosen


def _low_parts(planes: Bytes, count: int) -> NDArray[Any]:
    low: NDArray[Any] = np.zeros(count, dtype=np.uint8 if len(planes) <= 8 else np.int64)  # noqa: PLR2004 bits
    for plane, bits in enumerate(planes):
        low |= np.unpackbits(bits, count=count, bitorder="little").astype(low.dtype, copy=False) << low.dtype.type(
            plane
        )
    return low


def _low_bits(size: int, count: int) -> int:
    return max(1, (size // count).bit_length() - 1)


def _bytes(bits: int) -> int:
    return (bits + 7) // 8


def _damaged(name: str, problem: str) -> CoreMaskFormatError:
    return CoreMaskFormatError(f"The mask of {name!r} is damaged: {problem}. Download or compute the mask again.")
