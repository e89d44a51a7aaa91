"""What a pickle of `torch.save` may be made of, rebuilt from checked numbers. Nothing here is code of torch or numpy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch

from hf_langcore.exchange.stored import Stored, StoredSparse

_T = TypeVar("_T")

_MOST_DIMENSIONS = 8
_LARGEST = 1 << 62
STORAGES = {
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "ShortStorage": torch.int16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
}


class Storage(Protocol):
    """The values of one or several tensors, somewhere outside the pickle."""

    @property
    def numel(self) -> int:
        """Number of values."""

    def view(self, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> Stored:
        """A tensor in it; the caller has checked that it lies inside."""


@dataclass(slots=True)
class NumpyType:
    """A numpy dtype such as "i8"."""

    code: str
    order: str = "<"


def _tensor(storage: Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Stored:
    shape, stride = tuple(map(whole, shape)), tuple(map(whole, stride))
    if len(shape) != len(stride) or len(shape) > _MOST_DIMENSIONS:
        raise ValueError(f"a tensor has {len(shape)} sizes and {len(stride)} strides, of at most {_MOST_DIMENSIONS}")
    size = math.prod(shape)
    last = whole(offset) + sum((count - 1) * step for count, step in zip(shape, stride, strict=True))
    # An expanded tensor would take far more memory than the file.
    if size and (last >= storage.numel or size > storage.numel):
        raise ValueError(f"a tensor of shape {shape} does not fit into its {storage.numel} values")
    return storage.view(offset, shape, stride)


def _parameter(tensor: Stored, *_: Any) -> Stored:
    return of_type(Stored, tensor)


def _layout(name: str) -> str:
    return of_type(str, name)


def _sparse(layout: str, parts: tuple[Any, ...]) -> StoredSparse:
    indices, values, shape = parts[:3]
    if layout != "torch.sparse_coo" or len(shape) > _MOST_DIMENSIONS:
        raise ValueError("a sparse tensor is not in COO form, or has too many dimensions")
    return StoredSparse(of_type(Stored, indices), of_type(Stored, values), tuple(map(whole, shape)))


def _scalar(kind: NumpyType, content: bytes) -> int:
    """A whole number that numpy wrote, as it stands in sparse differences."""
    kind, content = of_type(NumpyType, kind), of_type(bytes, content)
    if kind.code[:1] not in {"i", "u"} or kind.code[1:] != str(len(content)) or kind.order not in {"<", ">", "|"}:
        raise ValueError(f"it holds a numpy {kind.code!r}, expected a whole number")
    return int.from_bytes(content, "big" if kind.order == ">" else "little", signed=kind.code[0] == "i")


def _encoded(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ValueError(f"it holds bytes as {encoding!r}, expected 'latin1'")
    return of_type(str, text).encode("latin1")


def _size(values: tuple[int, ...] = ()) -> tuple[int, ...]:
    return tuple(map(whole, values))


BUILDERS: dict[str, Callable[..., Any]] = {
    "torch._utils _rebuild_tensor": _tensor,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
    "torch._utils _rebuild_sparse_tensor": _sparse,
    "torch.serialization _get_layout": _layout,
    "torch Size": _size,
    "collections OrderedDict": dict,
    "numpy.core.multiarray scalar": _scalar,
    "numpy._core.multiarray scalar": _scalar,
    "_codecs encode": _encoded,
}


def whole(value: Any) -> int:
    """Return `value` if it is a whole number from 0 on.

    Raises:
        ValueError: It is not.
    """
    if type(value) is not int or not 0 <= value < _LARGEST:
        raise ValueError(f"expected a whole number, got {type(value).__name__} {value if type(value) is int else ''}")
    return value


def of_type(kind: type[_T], value: Any) -> _T:
    """Return `value` if it is of a type.

    Raises:
        TypeError: It is not.
    """
    if not isinstance(value, kind):
        raise TypeError(f"expected a {kind.__name__}, got a {type(value).__name__}")
    return value
