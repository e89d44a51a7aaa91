"""The file format: a header, blocks with their checksums, an end with the checksum of everything. Little-endian.

    magic "LCAC", version u16, length u32 and checksum u32 of the header, header as JSON packed by zlib
    block: 1 u8, length u32, checksum u32, body
    end:   0 u8, bytes of the original u64, sha256 of the original

A reader takes no length on trust: each has a limit, and what is damaged is found before the model is run.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass
from typing import Any, BinaryIO

from hf_langcore.errors import InputError

FORMAT_VERSION = 1
LARGEST_BLOCK = 1 << 22
"""Bytes of the original in one block, at most."""

_MAGIC = b"LCAC"
_HEADER = struct.Struct("<4sHII")
_BLOCK = struct.Struct("<II")
_END = struct.Struct("<Q32s")
_LARGEST_HEADER = 1 << 16
_LARGEST_BODY = LARGEST_BLOCK + (1 << 16)


@dataclass(frozen=True, slots=True)
class End:
    """What stands at the end.

    Attributes:
        size: Bytes of the original.
        sha256: Of the original.
    """

    size: int
    sha256: bytes


def write_header(target: BinaryIO, values: dict[str, Any]) -> int:
    """Write the magic number and the header; returns the bytes written."""
    text = zlib.compress(json.dumps(values, sort_keys=True).encode(), 9)
    head = _HEADER.pack(_MAGIC, FORMAT_VERSION, len(text), zlib.crc32(text))
    return _put(target, head + text)


def write_block(target: BinaryIO, body: bytes) -> int:
    """Write one block; returns the bytes written."""
    return _put(target, b"\x01" + _BLOCK.pack(len(body), zlib.crc32(body)) + body)


def write_end(target: BinaryIO, end: End) -> int:
    """Write the end; returns the bytes written."""
    return _put(target, b"\x00" + _END.pack(end.size, end.sha256))


def read_header(source: BinaryIO) -> dict[str, Any]:
    """Read the magic number and the header.

    Raises:
        InputError: It is no compressed data of this library, damaged, or of a newer format.
    """
    start = _up_to(source, _HEADER.size)
    if start[:4] != _MAGIC or len(start) < _HEADER.size:
        raise InputError(
            f"This was not compressed by hf_langcore: it begins with {bytes(start[:4])!r} instead of {_MAGIC!r}. Name a file that "
            "`langcore compress` wrote."
        )
    _, version, length, checksum = _HEADER.unpack(start)
    if version != FORMAT_VERSION:
        raise InputError(f"This has format version {version}, this hf_langcore reads {FORMAT_VERSION}: update it.")
    text = _exactly(source, length, _LARGEST_HEADER)
    if zlib.crc32(text) != checksum:
        raise damaged("the checksum of its header is another")
    try:
        values = json.loads(zlib.decompressobj().decompress(text, _LARGEST_HEADER))
    except (ValueError, RecursionError, zlib.error) as error:
        raise damaged(f"its header is no packed JSON ({error})") from error
    if not isinstance(values, dict):
        raise damaged("its header is no JSON object")
    return values


def read_part(source: BinaryIO) -> bytes | End:
    """Read the body of the next block, or the end.

    Raises:
        InputError: It is damaged or cut off.
    """
    kind = _exactly(source, 1, 1)
    if kind == b"\x00":
        end = End(*_END.unpack(_exactly(source, _END.size, _END.size)))
        if source.read(1):
            raise damaged("something follows its end")
        return end
    if kind != b"\x01":
        raise damaged(f"a block is of the unknown kind {kind[0]}")
    length, checksum = _BLOCK.unpack(_exactly(source, _BLOCK.size, _BLOCK.size))
    body = _exactly(source, length, _LARGEST_BODY)
    if zlib.crc32(body) != checksum:
        raise damaged("the checksum of a block is another")
    return body


def damaged(reason: str) -> InputError:
    """The error for data that cannot be what was written."""
    return InputError(f"The compressed data is damaged: {reason}. Copy it again, or compress the original again.")


def _exactly(source: BinaryIO, length: int, limit: int) -> bytes:
    if length > limit:
        raise damaged(f"a part claims {length:,} bytes, at most {limit:,} are possible")
    found = _up_to(source, length)
    if len(found) < length:
        raise damaged("it ends too early")
    return found


def _up_to(source: BinaryIO, length: int) -> bytes:
    """So many bytes, or fewer at the end: a pipe gives what it has."""
    parts: list[bytes] = []
    while length and (part := source.read(length)):
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def _put(target: BinaryIO, data: bytes) -> int:
    target.write(data)
    return len(data)
