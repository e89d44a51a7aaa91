"""Finds what hf_xet wrote into a folder that stands in for a xet server: file hashes by sha256, from its shards."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from loopback.store import File

HEADER = 48
"""Bytes before the first record: tag, version, footer size."""
RECORD = 48
"""Bytes of every record of a shard."""
END = b"\xff" * 32
HAS_VERIFICATION, HAS_METADATA = 1 << 31, 1 << 30


def objects_in(folder: str) -> dict[str, File]:
    """All files that the shards below a folder describe, by sha256."""
    found = (item for shard in sorted(Path(folder).rglob("*.mdb")) for item in _read(shard.read_bytes()))
    return {file.sha256: file for file in found}


def _read(shard: bytes) -> Iterator[File]:
    at = HEADER
    while at + RECORD <= len(shard) and shard[at : at + 32] != END:
        xet_hash, flags, segments = shard[at : at + 32], *struct.unpack_from("<II", shard, at + 32)
        first = at + RECORD
        size = sum(struct.unpack_from("<I", shard, first + number * RECORD + 36)[0] for number in range(segments))
        at = first + RECORD * segments * (2 if flags & HAS_VERIFICATION else 1)
        if flags & HAS_METADATA:
            yield File(b"", lfs=True, xet=_hexadecimal(xet_hash), sha256=_hexadecimal(shard[at : at + 32]), size=size)
            at += RECORD


def _hexadecimal(value: bytes) -> str:
    """A hash as xet writes it: four little-endian numbers."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", value))
