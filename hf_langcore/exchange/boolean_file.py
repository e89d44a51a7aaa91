"""Boolean safetensors, written piece by piece: the safetensors library wants all tensors in memory, 7 GB for a 7B model."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import IO, Any

import numpy as np

from hf_langcore.exchange.reading import DIGEST_NOTE
from hf_langcore.masks import CoreMask, PackedBits

_PIECE = 1 << 21  # bytes of packed bits that are unpacked at a time
_ALIGNMENT = 8


def write_boolean_file(core_mask: CoreMask, path: Path) -> None:
    """Write one tensor of dtype BOOL for each parameter.

    Args:
        core_mask: The mask.
        path: The file; it is replaced.
    """
    names = sorted(core_mask)
    header: dict[str, Any] = {"__metadata__": {"format": "pt", DIGEST_NOTE: core_mask.digest()}}
    start = 0
    for name in names:
        plane = core_mask.packed(name)
        header[name] = {"dtype": "BOOL", "shape": list(plane.shape), "data_offsets": [start, start + plane.size]}
        start += plane.size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        for name in names:
            _write(core_mask.packed(name), file)


def _write(plane: PackedBits, file: IO[bytes]) -> None:
    left = plane.size
    for start in range(0, len(plane.data), _PIECE):
        piece = plane.data[start : start + _PIECE]
        count = min(left, 8 * len(piece))
        file.write(np.unpackbits(piece, count=count, bitorder="little").tobytes())
        left -= count
