"""How one boolean tensor is stored: as nothing, as packed bits, or by the gaps between its True entries.

Gaps are Rice-coded. A matrix whose entries concentrate in rows and columns is cut into blocks of similar density, each
with a code of its own. Masks that are nearly full store their False entries. `Entry` is the description that stands in
the JSON file; everything in it is checked before anything of the size that it declares is allocated.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from hf_langcore.errors import CoreMaskFormatError
from hf_langcore.masks import elias_fano
from hf_langcore.masks.classes import MAX_CLASSES, matrix_shape, packed_size
from hf_langcore.masks.rice import Stream, byte_count

Kind = Literal["empty", "bits", "elias-fano", "rice"]

MAX_SIZE = 1 << 34  # entries of one tensor; a description that declares more is taken for damaged
MAX_SIZE_IN_CLASSES = 1 << 30  # these are decoded as a whole


@dataclass(frozen=True, slots=True)
class Block:
    """How the meeting of a row class and a column class is stored.

    Attributes:
        count: Number of entries that are stored: the True ones, or the False ones if `inverted`.
        low_bits: Number of bit planes of its stream.
        high_bytes: Bytes of the unary part of its stream.
        inverted: The stored entries are the False ones.
    """

    count: int
    low_bits: int
    high_bytes: int
    inverted: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of its stream."""
        return self.high_bytes + self.low_bits * byte_count(self.count)

    def stream(self, size: int) -> Stream:
        """What the reader of its stream must know."""
        return Stream(size, self.count, self.low_bits, self.high_bytes)

    def is_possible(self, size: int) -> bool:
        """Whether a block of so many entries can look like that."""
        if self.count == 0:
            return self.low_bits == 0 and self.high_bytes == 0
        return self.stream(size).is_possible()


@dataclass(frozen=True, slots=True)
class Entry:
    """How one tensor is stored.

    Attributes:
        shape: Shape of the boolean tensor.
        count: Number of entries that are stored: the True ones, or the False ones if `inverted`.
        kind: "empty" stores nothing, "bits" one array `bits`, "rice" one array `rice`: the classes of rows and of
            columns, if there are several, and the streams of the blocks. "elias-fano" is the form of format version 1
            with the arrays `high` and `low`.
        inverted: The stored entries are the False ones.
        low_bits: Number of bit planes of "elias-fano".
        classes: Of "rice": number of row classes and of column classes.
        blocks: Of "rice": one for each row class and column class, row by row.
    """

    shape: tuple[int, ...]
    count: int
    kind: Kind
    inverted: bool = False
    low_bits: int = 0
    classes: tuple[int, int] = (1, 1)
    blocks: tuple[Block, ...] = ()

    @property
    def size(self) -> int:
        """Number of entries of the tensor."""
        return math.prod(self.shape)

    @property
    def true_count(self) -> int:
        """Number of True entries."""
        return self.size - self.count if self.inverted else self.count

    def has_classes(self) -> bool:
        """Whether it is cut into more than one block."""
        return self.classes != (1, 1)

    def part_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the uint8 arrays that this entry must bring."""
        if self.kind == "empty":
            return {}
        if self.kind == "bits":
            return {"bits": (byte_count(self.size),)}
        if self.kind == "rice":
            return {"rice": (self.label_bytes() + sum(block.nbytes for block in self.blocks),)}
        high = byte_count(self.count + (self.size >> self.low_bits) + 1)
        return {"high": (high,), "low": (self.low_bits, byte_count(self.count))}

    def label_bytes(self) -> int:
        """Bytes of "rice" before the first stream."""
        return sum(packed_size(*pair) for pair in zip(matrix_shape(self.shape), self.classes, strict=True))


def check_entry(name: str, entry: Entry) -> None:
    """Refuse a description that no encoder writes, before anything of its size is allocated.

    Raises:
        CoreMaskFormatError: It contradicts itself.
    """
    if entry.kind not in get_args(Kind) or not isinstance(entry.inverted, bool):
        raise damaged(name, f"there is no form {entry.kind!r} with inverted = {entry.inverted!r}")
    if any(side < 0 for side in entry.shape) or entry.size > MAX_SIZE or max(entry.shape, default=0) > MAX_SIZE:
        raise damaged(name, f"the shape {repr(list(entry.shape))[:80]} is impossible")
    if not 0 <= 2 * entry.count <= entry.size:
        raise damaged(name, f"{entry.count} stored entries do not fit the shape {list(entry.shape)}")
    problem = next(_problems(entry), None)
    if problem is not None:
        raise damaged(name, f"{problem} is contradictory")


def damaged(name: str, problem: str) -> CoreMaskFormatError:
    """The error for a tensor that cannot be read."""
    return CoreMaskFormatError(
        f"The mask of {name!r} is damaged: {problem[:300]}. Download or compute the mask again."
    )


def _problems(entry: Entry) -> Iterator[str]:
    described = f"{entry.kind} with {entry.count} entries"
    if entry.kind == "elias-fano":
        if entry.count == 0 or entry.low_bits != elias_fano.low_bits_of(entry.size, entry.count):
            yield f"{described} and {entry.low_bits} low bits"
    elif entry.low_bits or (entry.kind == "empty") != (entry.count == 0):
        yield f"{described} and {entry.low_bits} low bits"
    if entry.kind != "rice":
        if entry.blocks or entry.has_classes():
            yield f"{described} in blocks"
        return
    if not all(1 <= classes <= MAX_CLASSES for classes in entry.classes) or len(entry.blocks) != math.prod(
        entry.classes
    ):
        yield f"{described} in {len(entry.blocks)} blocks of {entry.classes} classes"
    if entry.has_classes() and entry.size > MAX_SIZE_IN_CLASSES:
        yield f"{described} in classes of {entry.size} entries"
    if any(not isinstance(block.inverted, bool) or not block.is_possible(entry.size) for block in entry.blocks):
        yield f"{described} in blocks that no encoder writes"
    if not entry.has_classes() and [(block.count, block.inverted) for block in entry.blocks] != [(entry.count, False)]:
        yield f"{described} in one block of another number"
