"""From foreign tensors to the bits of a mask, with everything checked that a hostile file could get wrong."""

from __future__ import annotations

import math
from typing import NoReturn

import torch

from hf_langcore.errors import CoreMaskFormatError, CoreMaskMismatchError
from hf_langcore.exchange.stored import Stored
from hf_langcore.masks import PackedBits


def refuse(source: str, name: str, reason: str) -> NoReturn:
    """Refuse what a file says about one tensor.

    Raises:
        CoreMaskFormatError: Always.
    """
    raise CoreMaskFormatError(
        f"{source!r} says something impossible about {name!r}: {reason}. It was damaged or altered, or is of another format; "
        "ask whoever made it."
    )


def require_shape(source: str, name: str, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Refuse a tensor that is not of the parameter's shape, before its values are read.

    Raises:
        CoreMaskMismatchError: It is not.
    """
    if found != expected:
        raise CoreMaskMismatchError(
            f"{source!r} does not fit the model: {name!r} has shape {expected}, and the file's tensor {str(found)[:80]}. Pass the model "
            "that the file was made for."
        )


def zeros_and_ones(stored: Stored, *, source: str, name: str) -> torch.Tensor:
    """The values of a mask as a boolean tensor.

    Raises:
        CoreMaskFormatError: A value is neither 0 nor 1.
    """
    values = stored.read()
    numbers = values.view(torch.uint8) if values.dtype is torch.bool else values  # a damaged boolean may be any byte
    chosen = numbers == 1
    if not bool(((numbers == 0) | chosen).all()):
        refuse(source, name, f"a mask holds 0 and 1 only, and this tensor of {stored.dtype} holds other values")
    return chosen


def not_zero(stored: Stored, *, source: str, name: str) -> torch.Tensor:
    """Where differences are not zero, as a boolean tensor.

    Raises:
        CoreMaskFormatError: A difference is NaN or infinite.
    """
    values = stored.read()
    if values.dtype.is_floating_point and not bool(values.isfinite().all()):
        refuse(source, name, "a difference is NaN or infinite")
    return values != 0


def whole_numbers(stored: Stored, *, source: str, name: str) -> torch.Tensor:
    """Indices as int64. Floating-point ones are taken too (PEFT writes them on Windows), where they are whole.

    Raises:
        CoreMaskFormatError: They are no whole numbers.
    """
    values = stored.read()
    if values.dtype is torch.bool:
        refuse(source, name, "its indices are booleans")
    if not values.dtype.is_floating_point:
        return values.long()
    if not bool((values.isfinite() & (values == values.floor()) & (values.abs() < 2**53)).all()):
        refuse(source, name, "its indices are no whole numbers")
    return values.long()


def flat_positions(coordinates: torch.Tensor, shape: tuple[int, ...], *, source: str, name: str) -> torch.Tensor:
    """Positions in the flattened tensor.

    Args:
        coordinates: (dimensions, entries), int64.
        shape: Shape of the tensor.
        source: The file, for messages.
        name: The tensor, for messages.

    Returns:
        (entries,), int64.

    Raises:
        CoreMaskFormatError: There is another number of dimensions, or an index lies outside.
    """
    if coordinates.dim() != 2 or coordinates.shape[0] != len(shape):  # noqa: PLR2004
        refuse(source, name, f"its indices have shape {tuple(coordinates.shape)}, expected ({len(shape)}, entries)")
    flat = torch.zeros(coordinates.shape[1], dtype=torch.int64)
    for index, size in zip(coordinates, shape, strict=True):
        if bool(((index < 0) | (index >= size)).any()):
            refuse(source, name, f"an index lies outside 0 to {size - 1}")
        flat = flat * size + index
    return flat


def plane_at(
    positions: torch.Tensor,
    shape: tuple[int, ...],
    *,
    source: str,
    name: str,
    chosen: torch.Tensor | None = None,
    column_major: bool = False,
) -> PackedBits:
    """Bits that are True at some positions.

    Args:
        positions: (entries,), int64, in the flattened tensor.
        shape: Shape of the tensor.
        source: The file, for messages.
        name: The tensor, for messages.
        chosen: (entries,): which of the positions count; all of them if None.
        column_major: The first index runs fastest.

    Raises:
        CoreMaskFormatError: A position lies outside or stands twice.
    """
    size = math.prod(shape)
    if positions.numel() and (int(positions.min()) < 0 or int(positions.max()) >= size):
        refuse(source, name, f"a position lies outside 0 to {size - 1}")
    plane = torch.zeros(size, dtype=torch.bool)
    plane[positions] = True
    if int(plane.sum()) != positions.numel():
        refuse(source, name, "a position stands twice")
    if chosen is not None:
        plane[positions] = chosen
    if column_major:
        return PackedBits.from_bool(plane.view(shape[::-1]).permute(*range(len(shape))[::-1]))
    return PackedBits.from_bool(plane.view(shape))
