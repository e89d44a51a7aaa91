"""One block: bytes to a body of tokens in arithmetic code and of bytes that no tokens stand for, and back."""

from __future__ import annotations

import lzma
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from hf_langcore.compression.arithmetic import Coded, Way, decode_tokens, encode_tokens
from hf_langcore.compression.container import LARGEST_BLOCK, damaged
from hf_langcore.compression.pieces import Piece, split_pieces, text_of

_HEAD = struct.Struct("<IIIIIIIB")
_STORED, _ZLIB, _XZ = range(3)
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6}]
_WORD = 4
_VARINT_BITS = 7
_LONGEST_VARINT = 35


@dataclass(frozen=True, slots=True)
class BlockCoder:
    """Codes blocks with one model.

    Attributes:
        model: A causal LM.
        tokenizer: Its tokenizer.
        way: How tokens are coded.
        vocabulary: Number of tokens that the model knows.
        advance: Called with numbers of tokens that were coded or decoded.
    """

    model: nn.Module
    tokenizer: Any
    way: Way
    vocabulary: int
    advance: Callable[[int], object] = int

    def encode(self, data: bytes) -> bytes:
        """The body for some bytes; never much longer than they are."""
        pieces = split_pieces(self.tokenizer, data, vocabulary=self.vocabulary)
        body = self._body(data, pieces)
        if all(piece.ids is None for piece in pieces):
            return body
        # Where the model expects nothing of this text, bytes may be shorter.
        codec, packed = _pack(data)
        return body if len(body) <= len(packed) + _HEAD.size else _raw_body(data, codec, packed)

    def decode(self, body: bytes) -> bytes:
        """The bytes of a body.

        Raises:
            InputError: The body is damaged, or was made by another computation.
        """
        if len(body) < _HEAD.size:
            raise damaged("a block is too short")
        size, checksum, probe, tokens, raw_size, packed_size, directory_size, codec = _HEAD.unpack_from(body)
        if size > LARGEST_BLOCK or raw_size > size or tokens > 2 * LARGEST_BLOCK:
            raise damaged("a block claims more than fits one")
        begin = _HEAD.size + directory_size
        directory, packed, payload = (
            body[_HEAD.size : begin],
            body[begin : begin + packed_size],
            body[begin + packed_size :],
        )
        if len(directory) < directory_size or len(packed) < packed_size or len(payload) % _WORD:
            raise damaged("the parts of a block do not fit it")
        runs = _runs(directory, tokens, raw_size)
        raw = _unpack(codec, packed, raw_size)
        ids = decode_tokens(self.model, Coded(payload, probe), tokens, self.way, advance=self.advance)
        data = self._joined(runs, ids, raw)
        if len(data) != size or zlib.crc32(data) != checksum:
            raise damaged(
                "a block was decoded to something else than was coded (or the model computes differently here than where it was "
                "compressed: then use the same device, dtype, number of threads and versions)"
            )
        return data

    def _body(self, data: bytes, pieces: Sequence[Piece]) -> bytes:
        raw = b"".join(piece.raw for piece in pieces)
        ids = [token for piece in pieces for token in piece.ids or ()]
        codec, packed = _pack(raw)
        coded = encode_tokens(self.model, ids, self.way, advance=self.advance) if ids else Coded(b"", 0)
        directory = b"".join(
            _varint(2 * len(piece.raw)) if piece.ids is None else _varint(2 * len(piece.ids) + 1) for piece in pieces
        )
        sizes = (len(data), zlib.crc32(data), coded.probe, len(ids), len(raw), len(packed), len(directory), codec)
        return _HEAD.pack(*sizes) + directory + packed + coded.payload

    def _joined(self, runs: Sequence[tuple[int, bool]], ids: list[int], raw: bytes) -> bytes:
        parts: list[bytes] = []
        token = place = 0
        for length, is_tokens in runs:
            if is_tokens:
                parts.append(text_of(self.tokenizer, ids[token : token + length]))
                token += length
            else:
                parts.append(raw[place : place + length])
                place += length
        return b"".join(parts)


def _raw_body(data: bytes, codec: int, packed: bytes) -> bytes:
    directory = _varint(2 * len(data))
    sizes = (len(data), zlib.crc32(data), 0, 0, len(data), len(packed), len(directory), codec)
    return _HEAD.pack(*sizes) + directory + packed


def _runs(directory: bytes, tokens: int, raw_size: int) -> list[tuple[int, bool]]:
    """Lengths of the runs, and whether they are tokens."""
    runs = [(value >> 1, bool(value & 1)) for value in _varints(directory)]
    if any(not length for length, _ in runs):
        raise damaged("a run of a block is empty")
    found = [sum(length for length, is_tokens in runs if is_tokens is wanted) for wanted in (True, False)]
    if found != [tokens, raw_size]:
        raise damaged("the runs of a block do not add up")
    return runs


def _pack(raw: bytes) -> tuple[int, bytes]:
    """The shortest of three ways to keep bytes."""
    ways = (raw, zlib.compress(raw, 9), lzma.compress(raw, format=lzma.FORMAT_RAW, filters=_FILTERS))
    codec = min(range(len(ways)), key=lambda number: len(ways[number]))
    return codec, ways[codec]


def _unpack(codec: int, packed: bytes, size: int) -> bytes:
    """The reverse of `_pack`; no more than `size` bytes are ever made."""
    try:
        if codec == _STORED:
            raw = packed
        elif codec == _ZLIB:
            raw = zlib.decompressobj().decompress(packed, size + 1)
        elif codec == _XZ:
            raw = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_FILTERS).decompress(packed, size + 1)
        else:
            raise damaged(f"bytes are packed in the unknown way {codec}")
    except (zlib.error, lzma.LZMAError, EOFError) as error:
        raise damaged(f"packed bytes cannot be read ({error})") from error
    if len(raw) != size:
        raise damaged("packed bytes are of another length than the block says")
    return raw


def _varint(value: int) -> bytes:
    """A whole number in as few bytes as it needs, seven bits in each."""
    parts = bytearray()
    while value >= 1 << _VARINT_BITS:
        parts.append((value & 0x7F) | 0x80)
        value >>= _VARINT_BITS
    return bytes([*parts, value])


def _varints(data: bytes) -> Iterator[int]:
    value = shift = 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += _VARINT_BITS
        if not byte & 0x80:
            yield value
            value = shift = 0
        elif shift >= _LONGEST_VARINT:
            raise damaged("a number in a block is too long")
    if shift:
        raise damaged("a number in a block is cut off")
