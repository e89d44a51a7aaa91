"""Byte arrays in a `.safetensors` file, written and read one after the other.

The library's own writer gathers all arrays in memory first, and its reader maps the file, which counts as memory too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from hf_langcore.errors import CoreMaskFormatError
from hf_langcore.masks.bits import Bytes

_LENGTH = 8  # bytes that hold the length of the header
_HEADER_BASE, _HEADER_ARRAY = 1024, 256  # more than the header needs, in all and for each array besides its name


def write_arrays(path: Path, arrays: Mapping[str, Bytes], *, metadata: Mapping[str, str]) -> None:
    """Write uint8 arrays in the order of their names, so that the same arrays are the same file."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name in sorted(arrays):
        start, end = end, end + arrays[name].nbytes
        header[name] = {"dtype": "U8", "shape": list(arrays[name].shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _LENGTH)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(_LENGTH, "little") + text)
        for name in sorted(arrays):
            file.write(np.ascontiguousarray(arrays[name]).data)


def read_arrays(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Bytes]:
    """Read uint8 arrays of known names and shapes.

    Raises:
        CoreMaskFormatError: The file is no readable safetensors file or holds other arrays.
        OSError: The file cannot be read.
    """
    header = _header(path, shapes)
    if header.keys() != shapes.keys():
        odd = min(header.keys() ^ shapes.keys())
        raise CoreMaskFormatError(
            f"{path.name} and the JSON file beside it name different arrays, the first is {odd!r}. Download the mask again."
        )
    arrays = {}
    start = _LENGTH + _header_length(path)
    with path.open("rb") as file:
        for name, shape in shapes.items():
            found = header[name]
            if found["dtype"] != "U8" or tuple(found["shape"]) != shape:
                raise CoreMaskFormatError(
                    f"The array {name!r} in {path.name} should be uint8 {shape}, the file holds {found['dtype']} "
                    f"{tuple(found['shape'])}. Download or compute the mask again."
                )
            file.seek(start + found["data_offsets"][0])
            array = np.fromfile(file, dtype=np.uint8, count=math.prod(shape))
            if array.size != math.prod(shape):
                raise _unreadable(path, "it was replaced while it was read")
            array = array.reshape(shape)
            array.flags.writeable = False
            arrays[name] = array
    return arrays


def _header(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The header without its metadata; the library has checked that it describes the whole file."""
    length = _header_length(path)
    if length > _HEADER_BASE + sum(len(name) + _HEADER_ARRAY for name in shapes):
        raise _unreadable(path, f"a header of {length} bytes for {len(shapes)} arrays")
    try:
        with safe_open(path, framework="numpy") as file:
            names = set(file.keys())
    except SafetensorError as error:
        raise _unreadable(path, error) from error
    with path.open("rb") as file:
        file.seek(_LENGTH)
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    if header.keys() != names:
        raise _unreadable(path, "a header that can be read in two ways")
    return dict(header)


def _header_length(path: Path) -> int:
    with path.open("rb") as file:
        return int.from_bytes(file.read(_LENGTH), "little")


def _unreadable(path: Path, problem: object) -> CoreMaskFormatError:
    return CoreMaskFormatError(f"{path} is no readable safetensors file ({problem}). Download it again.")
