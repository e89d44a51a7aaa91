"""From boolean tensors to their stored form and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from hf_langcore.masks import elias_fano, rice
from hf_langcore.masks.bits import Bools, Bytes, PackedBits
from hf_langcore.masks.classes import Grid, best_grid, matrix_shape
from hf_langcore.masks.encoding import MAX_SIZE_IN_CLASSES, Block, Entry, check_entry, damaged
from hf_langcore.masks.rice import Positions, StreamError, byte_count

_DENSE = 4  # above a quarter, packed bits are no larger
_SPAN = 1 << 20  # entries that are unpacked at a time, so that they stay in the cache
_MATRIX = 2


class Coded(NamedTuple):
    """A boolean tensor in its stored form.

    Attributes:
        entry: Its description.
        parts: Its arrays, uint8.
    """

    entry: Entry
    parts: dict[str, Bytes]

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(part.nbytes for part in self.parts.values())


def encode(mask: PackedBits) -> Coded:
    """A small form of `mask`, quickly."""
    count, size = mask.count(), mask.size
    inverted = 2 * count > size
    if inverted:
        mask, count = ~mask, size - count
    if count == 0:
        return Coded(Entry(mask.shape, 0, "empty", inverted), {})
    if count * _DENSE > size:
        return Coded(Entry(mask.shape, count, "bits", inverted), {"bits": mask.data})
    block, parts = _encode_block(mask.to_bool().reshape(-1))
    entry = Entry(mask.shape, count, "rice", inverted, blocks=(block,))
    return Coded(entry, {"rice": np.concatenate(parts)})


def encode_smallest(mask: PackedBits) -> Coded:
    """The smallest form of `mask`."""
    plain = encode(mask)
    size = plain.entry.size
    if not plain.entry.count or len(mask.shape) < _MATRIX or size > MAX_SIZE_IN_CLASSES:
        return plain
    values = (~mask if plain.entry.inverted else mask).to_bool().reshape(matrix_shape(mask.shape))
    grid = best_grid(values, plain.nbytes)
    if grid is None:
        return plain
    blocks, parts = [], [grid.pack()]
    for lines in grid.blocks():
        block, streams = _encode_block(values[np.ix_(*grid.lines(*lines))].reshape(-1))
        blocks.append(block)
        parts.extend(streams)
    classes = (grid.row_classes, grid.column_classes)
    entry = Entry(mask.shape, plain.entry.count, "rice", plain.entry.inverted, classes=classes, blocks=tuple(blocks))
    coded = Coded(entry, {"rice": np.concatenate(parts)})
    return coded if coded.nbytes < plain.nbytes else plain


def decode(name: str, coded: Coded) -> PackedBits:
    """Rebuild a mask as packed bits, checking everything that the arrays could get wrong.

    Raises:
        CoreMaskFormatError: Sizes, counts or positions contradict each other.
    """
    if coded.entry.kind == "bits" and not coded.entry.inverted:
        _check(name, coded)
        return PackedBits(_checked_bits(name, coded), coded.entry.shape)
    data = np.empty(byte_count(coded.entry.size), dtype=np.uint8)
    start = 0
    for chunk in decode_chunks(name, coded):
        data[start : start + chunk.size] = chunk
        start += chunk.size
    data.flags.writeable = False
    return PackedBits(data, coded.entry.shape)


def decode_bools(name: str, coded: Coded) -> Bools:
    """Rebuild a mask as a fresh boolean array, checked as in `decode`."""
    entry = coded.entry
    _check(name, coded)
    if entry.kind == "bits":
        values = np.unpackbits(_checked_bits(name, coded), count=entry.size, bitorder="little").view(np.bool_)
    elif entry.has_classes():
        values = _decode_classes(name, coded)
    else:
        values = np.zeros(entry.size, dtype=np.bool_)
        for positions in _positions(name, coded):
            values[positions] = True
    if entry.inverted:
        np.logical_not(values, out=values)
    return values.reshape(entry.shape)


def decode_chunks(name: str, coded: Coded) -> Iterator[Bytes]:
    """The packed bits of a mask from the first to the last, some at a time, checked as in `decode`."""
    entry = coded.entry
    _check(name, coded)
    if entry.kind == "bits":
        data = _checked_bits(name, coded)
        chunks: Iterable[Bytes] = (data[start : start + _SPAN] for start in range(0, data.size, _SPAN))
    elif entry.has_classes():
        values = _decode_classes(name, coded)
        spans = range(0, values.size, _SPAN)
        chunks = (np.packbits(values[start : start + _SPAN], bitorder="little") for start in spans)
    else:
        chunks = _packed(_positions(name, coded), entry.size)
    if not entry.inverted:
        yield from chunks
        return
    left = byte_count(entry.size)
    for chunk in chunks:
        turned = ~chunk
        left -= turned.size
        if not left and entry.size % 8:
            turned[-1] &= (1 << entry.size % 8) - 1
        yield turned


def _packed(blocks: Iterable[Positions], size: int) -> Iterator[Bytes]:
    """Increasing positions as packed bits, `_SPAN` entries at a time."""
    buffer = np.zeros(_SPAN, dtype=np.bool_)
    base = 0
    for block in blocks:
        positions = block - base
        while positions[-1] >= _SPAN:
            inside = int(np.searchsorted(positions, _SPAN))
            buffer[positions[:inside]] = True
            yield np.packbits(buffer, bitorder="little")
            buffer[:] = False
            positions = positions[inside:] - _SPAN
            base += _SPAN
        buffer[positions] = True
    while base < size:
        yield np.packbits(buffer[: size - base], bitorder="little")
        buffer[:] = False
        base += _SPAN


def _positions(name: str, coded: Coded) -> Iterator[Positions]:
    entry, parts = coded
    if entry.kind == "empty":
        return
    try:
        if entry.kind == "rice":
            yield from rice.read(entry.blocks[0].stream(entry.size), parts["rice"])
        else:
            yield from elias_fano.read(entry.size, entry.count, parts["high"], parts["low"])
    except StreamError as error:
        raise damaged(name, str(error)) from error


def _decode_classes(name: str, coded: Coded) -> Bools:
    entry, data = coded.entry, coded.parts["rice"]
    shape = matrix_shape(entry.shape)
    values = np.zeros(shape, dtype=np.bool_)
    start, count = entry.label_bytes(), 0
    try:
        grid = Grid.unpack(data[:start], shape, entry.classes)
        for block, lines in zip(entry.blocks, grid.blocks(), strict=True):
            rows, columns = grid.lines(*lines)
            _decode_block(values, block, (rows, columns), data[start : start + block.nbytes])
            start += block.nbytes
            count += rows.size * columns.size - block.count if block.inverted else block.count
    except StreamError as error:
        raise damaged(name, str(error)) from error
    if count != entry.count:
        raise damaged(name, f"it declares {entry.count} positions and its blocks hold {count}")
    return values.reshape(-1)


def _decode_block(values: Bools, block: Block, lines: tuple[Positions, Positions], data: Bytes) -> None:
    rows, columns = lines
    if not block.is_possible(rows.size * columns.size):
        raise StreamError(f"{block.count} entries do not fit a block of {rows.size} x {columns.size}")
    if block.inverted:
        values[np.ix_(rows, columns)] = True
    if not block.count:
        return
    flat, width = values.reshape(-1), columns.size
    begins = rows * values.shape[1]
    shifts = begins - np.arange(rows.size) * width
    whole = width == values.shape[1]
    for positions in rice.read(block.stream(rows.size * width), data):
        row = positions // width
        if whole:
            positions += shifts[row]  # noqa: PLW2901 the blocks are fresh arrays
            flat[positions] = not block.inverted
        else:
            positions -= row * width  # noqa: PLW2901
            flat[columns[positions] + begins[row]] = not block.inverted


def _encode_block(values: Bools) -> tuple[Block, list[Bytes]]:
    count = int(np.count_nonzero(values))
    inverted = 2 * count > values.size
    if inverted:
        values, count = ~values, values.size - count
    if not count:
        return Block(0, 0, 0, inverted), []
    stream, parts = rice.write(values, count)
    return Block(count, stream.low_bits, stream.high_bytes, inverted), parts


def _check(name: str, coded: Coded) -> None:
    check_entry(name, coded.entry)
    for part, shape in coded.entry.part_shapes().items():
        array = coded.parts.get(part)
        if array is None or array.shape != shape or array.dtype != np.uint8:
            got = "nothing" if array is None else f"{array.dtype} {array.shape}"
            raise damaged(name, f"its array {part!r} should be uint8 {shape}, the file holds {got}")


def _checked_bits(name: str, coded: Coded) -> Bytes:
    entry, data = coded.entry, coded.parts["bits"]
    if PackedBits(data, entry.shape).count() != entry.count or (entry.size % 8 and data[-1] >> entry.size % 8):
        raise damaged(name, f"it should hold {entry.count} entries and holds another number")
    return data
