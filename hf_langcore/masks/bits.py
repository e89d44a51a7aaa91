"""Boolean tensors kept as packed bits: an eighth of a byte per weight, set algebra byte by byte."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hf_langcore.errors import InputError

Bytes = NDArray[np.uint8]
Bools = NDArray[np.bool_]


_INTEGER_OF_SIZE = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True, eq=False)
class PackedBits:
    """An immutable boolean tensor.

    Attributes:
        data: uint8, ceil(size / 8) bytes; bit i of byte j is entry 8j + i of the flattened tensor. Bits
            beyond the last entry are 0.
        shape: Shape of the boolean tensor.
    """

    data: Bytes
    shape: tuple[int, ...]

    __slots__ = ("__weakref__", "data", "shape")  # dataclass(slots=True) leaves out weak references in Python 3.10

    def __reduce__(self) -> tuple[Any, ...]:
        return PackedBits, (self.data, self.shape)

    @classmethod
    def from_bool(cls, values: Bools | torch.Tensor) -> PackedBits:
        """Pack a boolean array or tensor of any device.

        Raises:
            InputError: `values` is not boolean.
        """
        given = values if isinstance(values, torch.Tensor) else np.asarray(values)
        if str(given.dtype) not in {"bool", "torch.bool"}:
            raise InputError(
                f"A mask tensor has dtype bool, got {given.dtype}. Say what True means: e.g. `scores > threshold`."
            )
        array = given.detach().cpu().numpy() if isinstance(given, torch.Tensor) else given
        data = np.packbits(array.reshape(-1), bitorder="little")
        data.flags.writeable = False
        return cls(data, tuple(array.shape))

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    def to_bool(self) -> Bools:
        """A fresh boolean array of `shape`."""
        return np.unpackbits(self.data, count=self.size, bitorder="little").view(np.bool_).reshape(self.shape)

    def to_tensor(self) -> torch.Tensor:
        """A fresh boolean tensor of `shape` on the CPU."""
        return torch.from_numpy(self.to_bool())

    def count(self) -> int:
        """Number of True entries."""
        return int(np.bitwise_count(self.data).sum(dtype=np.int64))

    def __and__(self, other: PackedBits) -> PackedBits:
        return self._with(self.data & other.data)

    def __or__(self, other: PackedBits) -> PackedBits:
        return self._with(self.data | other.data)

    def __xor__(self, other: PackedBits) -> PackedBits:
        return self._with(self.data ^ other.data)

    def __sub__(self, other: PackedBits) -> PackedBits:
        return self._with(self.data & ~other.data)

    def __invert__(self) -> PackedBits:
        data = ~self.data
        if self.size % 8:
            data[-1] &= (1 << self.size % 8) - 1
        return self._with(data)

    def _with(self, data: NDArray[Any]) -> PackedBits:
        data.flags.writeable = False
        return PackedBits(data, self.shape)


def unpack_bits(packed: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Unpack a uint8 tensor in `PackedBits.data`'s layout on its own device.

    Args:
        packed: uint8, at least ceil(prod(shape) / 8) bytes.
        shape: Shape of the result.

    Returns:
        Boolean tensor of `shape` on `packed`'s device.
    """
    bits = torch.arange(8, device=packed.device, dtype=torch.uint8)
    flat = ((packed[:, None] >> bits) & 1).view(-1)[: math.prod(shape)]
    return flat.bool().view(shape)


def bits_of(values: torch.Tensor) -> torch.Tensor:
    """A view of floating-point values as integers of the same width, so that -0.0 differs from 0.0 and NaN equals itself."""
    return values.detach().view(_INTEGER_OF_SIZE[values.element_size()])
