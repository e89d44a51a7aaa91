"""Arithmetic coding of tokens: constriction's range coder, with the model's probabilities in fixed point.

constriction rounds each distribution to whole numbers of 1/2**24, at least one for each token, in one order of operations, so
that equal float32 probabilities give equal intervals on every machine.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from hf_langcore.compression.rows import plan_batches, run_rows
from hf_langcore.errors import InputError
from hf_langcore.extras import require

_PRECISION = 2.0**-23  # twice what the rounding to fixed point may add to a probability
_SLACK = 96.0  # bits that a range coder may hold beyond its last word
_WORD = 4

_DAMAGED = "The compressed data is damaged: its code ends before its tokens do. Copy or make it again."


@dataclass(frozen=True, slots=True)
class Way:
    """How tokens are coded; both sides need the same.

    Attributes:
        start_id: The start token of each row.
        context: Positions that the model looks at.
        chunk: Most tokens of a row.
        streams: Most rows side by side.
    """

    start_id: int
    context: int
    chunk: int
    streams: int


@dataclass(frozen=True, slots=True)
class Coded:
    """Coded tokens.

    Attributes:
        payload: The code, in words of four bytes.
        probe: Checksum of the first probabilities, by which a decoder knows at once whether it computes the same.
    """

    payload: bytes
    probe: int


def encode_tokens(model: nn.Module, ids: Sequence[int], way: Way, *, advance: Callable[[int], object] = int) -> Coded:
    """Code tokens; at least one."""
    stream, family = _coder()
    encoder = stream.RangeEncoder()
    probes: list[int] = []
    done = 0
    for lengths in plan_batches(len(ids), chunk=way.chunk, streams=way.streams):
        rows = _rows(ids[done : done + sum(lengths)], lengths)
        done += sum(lengths)
        columns = iter(rows.T)

        def code(probabilities: NDArray[np.float32], columns: Any = columns) -> NDArray[np.int32]:
            probes.extend([] if probes else [_checksum(probabilities)])
            symbols = np.ascontiguousarray(next(columns)[: len(probabilities)])
            encoder.encode(symbols, family, probabilities)
            return symbols

        run_rows(model, lengths, code, start_id=way.start_id, context=way.context, advance=advance)
    payload: bytes = encoder.get_compressed().astype("<u4").tobytes()
    return Coded(payload, probes[0])


def decode_tokens(
    model: nn.Module, coded: Coded, tokens: int, way: Way, *, advance: Callable[[int], object] = int
) -> list[int]:
    """The reverse of `encode_tokens`.

    Args:
        model: The same model.
        coded: The code.
        tokens: How many there are.
        way: As they were coded.
        advance: Called with the number of tokens decoded in a step.

    Raises:
        InputError: The code is damaged, or this machine computes other probabilities than the encoder's.
    """
    decoding = _Decoding(coded)
    found: list[int] = []
    for lengths in plan_batches(tokens, chunk=way.chunk, streams=way.streams):
        rows = run_rows(model, lengths, decoding.code, start_id=way.start_id, context=way.context, advance=advance)
        found += [token for row in rows for token in row]
    return found


class _Decoding:
    """Takes tokens out of a code, and stops when more has come out than can be in it."""

    def __init__(self, coded: Coded) -> None:
        stream, self._family = _coder()
        self._decoder = stream.RangeDecoder(np.frombuffer(coded.payload, dtype="<u4").astype(np.uint32))
        self._left = 8.0 * len(coded.payload) + _SLACK
        self._probe: int | None = coded.probe

    def code(self, probabilities: NDArray[np.float32]) -> NDArray[np.int32]:
        """The next token of each row."""
        if self._probe is not None and _checksum(probabilities) != self._probe:
            raise InputError(
                "This model on this machine computes other probabilities than where the data was compressed, so that it cannot be "
                "decompressed here. Use the same kind of device, dtype, number of threads and versions of torch and transformers."
            )
        self._probe = None
        try:
            symbols: NDArray[np.int32] = self._decoder.decode(self._family, probabilities)
        except (AssertionError, ValueError, RuntimeError) as error:
            raise InputError(_DAMAGED) from error
        # No code holds more than its length: damaged ones are given up before their last token.
        said = probabilities[np.arange(len(symbols)), symbols].astype(np.float64)
        self._left += float(np.log2(np.minimum(said + _PRECISION, 1.0)).sum())
        if self._left < 0:
            raise InputError(_DAMAGED)
        return symbols


def _coder() -> tuple[Any, Any]:
    constriction = require("constriction", extra="compression", feature="Compressing with a model")
    return constriction.stream.queue, constriction.stream.model.Categorical(perfect=False)


def _rows(ids: Sequence[int], lengths: Sequence[int]) -> NDArray[np.int32]:
    """Rows of consecutive tokens, (rows, longest row), filled up with zeros that are never coded."""
    rows = np.zeros((len(lengths), max(lengths)), dtype=np.int32)
    begin = 0
    for row, length in enumerate(lengths):
        rows[row, :length] = ids[begin : begin + length]
        begin += length
    return rows


def _checksum(probabilities: NDArray[np.float32]) -> int:
    return zlib.crc32(np.ascontiguousarray(probabilities).tobytes())
