"""Tensors of foreign files: shape and dtype are known at once, values are read when they are asked for.

So shapes can be compared with the model's before anything is allocated, and a mask of a large model is read one tensor at
a time.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any, NoReturn

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from hf_langcore.errors import CoreMaskFormatError

_SAFETENSORS_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}
_NUMPY_DTYPES = {
    "bool": torch.bool,
    "uint8": torch.uint8,
    "int8": torch.int8,
    "int16": torch.int16,
    "int32": torch.int32,
    "int64": torch.int64,
    "float16": torch.float16,
    "float32": torch.float32,
    "float64": torch.float64,
}
_NPY = ".npy"
_SHOWN = 300
_LONGEST_HEADER = 10_000  # as numpy has it, which checks only after the header has been read
# zlib's and numpy's errors of parsing derive from no common class of their own.
_ZIP_ERRORS = (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError, struct.error)
_NUMPY_ERRORS = (*_ZIP_ERRORS, SyntaxError, MemoryError, TokenError, zlib.error)


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A dense tensor in a file.

    Attributes:
        shape: Its shape, as declared; nothing of that size has been allocated.
        dtype: Its dtype.
        load: Reads the values.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    load: Callable[[], torch.Tensor]

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    def read(self) -> torch.Tensor:
        """The values, on the CPU. Compare `shape` with what you expect first.

        Raises:
            CoreMaskFormatError: The file is damaged, or no longer what it was.
        """
        values = self.load()
        if tuple(values.shape) != self.shape:
            raise CoreMaskFormatError(
                f"A tensor was declared with shape {self.shape} and has {tuple(values.shape)}: the file changed while it "
                "was read. Read it again."
            )
        return values


@dataclass(frozen=True, slots=True, eq=False)
class StoredSparse:
    """A sparse tensor (COO) in a file.

    Attributes:
        indices: (dimensions, entries), int64.
        values: (entries,).
        shape: Shape of the whole tensor, as declared.
    """

    indices: Stored
    values: Stored
    shape: tuple[int, ...]


def damaged(path: Path, reason: object) -> NoReturn:
    """Refuse a file.

    Raises:
        CoreMaskFormatError: Always.
    """
    said = "".join(sign if sign.isprintable() else "?" for sign in str(reason)[:_SHOWN])
    # Not from what was raised: a parser's error may repeat all of a name of ten million characters.
    raise CoreMaskFormatError(
        f"{str(path)!r} cannot be read: {said}. Download it again or ask whoever made it."
    ) from None


def read_safetensors(path: Path) -> dict[str, Stored]:
    """The tensors of a safetensors file by name.

    Raises:
        CoreMaskFormatError: The file is damaged, or holds a dtype that no mask has.
    """
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 a file, not a mapping
            declared = {name: (tuple(one.get_shape()), one.get_dtype()) for name, one in slices.items()}
    except (SafetensorError, OSError, ValueError) as error:
        damaged(path, error)
    stored = {}
    for name, (shape, dtype) in declared.items():
        if dtype not in _SAFETENSORS_DTYPES:
            damaged(path, f"{name!r} has dtype {dtype}; expected {', '.join(_SAFETENSORS_DTYPES)}")
        stored[name] = Stored(shape, _SAFETENSORS_DTYPES[dtype], _safetensors_loader(path, name))
    return stored


def safetensors_note(path: Path, key: str) -> str | None:
    """What the metadata of a safetensors file says under a key, or None."""
    with safe_open(path, framework="pt") as file:
        note: str | None = (file.metadata() or {}).get(key)
    return note


def _safetensors_loader(path: Path, name: str) -> Callable[[], torch.Tensor]:
    def load() -> torch.Tensor:
        try:
            with safe_open(path, framework="pt") as file:
                values: torch.Tensor = file.get_tensor(name)
        except (SafetensorError, OSError, ValueError) as error:
            damaged(path, error)
        return values

    return load


def read_npy(path: Path) -> Stored:
    """The array of a `.npy` file; pickled objects in it are refused.

    Raises:
        CoreMaskFormatError: The file is damaged, or holds a dtype that no mask has.
    """
    try:
        with path.open("rb") as file:
            return _stored_array(path, file, lambda: path.open("rb"))
    except _NUMPY_ERRORS as error:
        damaged(path, error)


def read_npz(path: Path) -> dict[str, Stored]:
    """The arrays of a `.npz` file by name.

    Raises:
        CoreMaskFormatError: The file is damaged, or holds a dtype that no mask has.
    """
    stored: dict[str, Stored] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                name = member.removesuffix(_NPY)
                if name in stored:
                    damaged(path, f"two of its members are called {member!r}")
                with archive.open(member) as file:
                    stored[name] = _stored_array(path, file, _member_opener(path, member))
    except _NUMPY_ERRORS as error:
        damaged(path, error)
    return stored


def is_npz(path: Path) -> bool:
    """Whether a zip archive holds nothing but numpy arrays."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    except _ZIP_ERRORS as error:
        damaged(path, error)
    return bool(members) and all(name.endswith(_NPY) for name in members)


def _member_opener(path: Path, member: str) -> Callable[[], IO[bytes]]:
    def opened() -> IO[bytes]:
        with zipfile.ZipFile(path) as archive:
            return archive.open(member)

    return opened


def _stored_array(path: Path, file: IO[bytes], opened: Callable[[], IO[bytes]]) -> Stored:
    """What the header in `file` declares; the values are read from `opened()`."""

    def load() -> torch.Tensor:
        try:
            with opened() as again:
                return torch.from_numpy(np.ascontiguousarray(np.lib.format.read_array(again, allow_pickle=False)))
        except _NUMPY_ERRORS as error:
            damaged(path, error)

    shape, dtype = _npy_header(file)
    if dtype.hasobject or dtype.name not in _NUMPY_DTYPES or not dtype.isnative:
        damaged(path, f"it holds an array of dtype {dtype.name}; expected {', '.join(_NUMPY_DTYPES)}")
    return Stored(shape, _NUMPY_DTYPES[dtype.name], load)


def _npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    versions = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(file)
    if version not in versions:
        raise ValueError(f"its format version is {version}, expected 1.0 or 2.0")
    shape, _, dtype = versions[version](io.BytesIO(file.read(4 + _LONGEST_HEADER)))
    return tuple(map(int, shape)), dtype
