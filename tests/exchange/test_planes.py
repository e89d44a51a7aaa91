from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hf_langcore.errors import CoreMaskFormatError, CoreMaskMismatchError
from hf_langcore.exchange.planes import (
    flat_positions,
    not_zero,
    plane_at,
    refuse,
    require_shape,
    whole_numbers,
    zeros_and_ones,
)
from hf_langcore.exchange.stored import Stored

WHERE: dict[str, Any] = {"source": "file", "name": "w"}


def stored(values: Any, dtype: torch.dtype | None = None) -> Stored:
    tensor = torch.as_tensor(values, dtype=dtype)
    return Stored(tuple(tensor.shape), tensor.dtype, lambda: tensor)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32, torch.bfloat16])
def test_zeros_and_ones(dtype: torch.dtype) -> None:
    assert zeros_and_ones(stored([[0, 1], [1, 0]], dtype), **WHERE).tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize(
    "values", [torch.tensor([0, 2]), torch.tensor([-1, 1]), torch.tensor([0.0, float("nan")]), torch.tensor([0.5])]
)
def test_other_values_are_refused(values: torch.Tensor) -> None:
    with pytest.raises(CoreMaskFormatError, match="0 and 1 only"):
        zeros_and_ones(stored(values), **WHERE)


def test_a_boolean_of_another_byte_is_refused() -> None:
    """Torch counts any byte of a boolean as True in one operation and compares it with 1 in another."""
    with pytest.raises(CoreMaskFormatError, match="0 and 1 only"):
        zeros_and_ones(stored(torch.tensor([0, 1, 7], dtype=torch.uint8).view(torch.bool)), **WHERE)


def test_differences() -> None:
    assert not_zero(stored([0.0, -0.0, 1e-40, -2.0]), **WHERE).tolist() == [False, False, True, True]
    for bad in (float("nan"), float("inf"), -float("inf")):
        with pytest.raises(CoreMaskFormatError, match="NaN or infinite"):
            not_zero(stored([1.0, bad]), **WHERE)


def test_whole_numbers() -> None:
    assert whole_numbers(stored([3.0, 0.0]), **WHERE).tolist() == [3, 0]
    assert whole_numbers(stored([3, -1], torch.int32), **WHERE).dtype == torch.int64
    for bad in ([0.5], [float("nan")], [float("inf")], [1e30]):
        with pytest.raises(CoreMaskFormatError, match="no whole numbers"):
            whole_numbers(stored(bad), **WHERE)
    with pytest.raises(CoreMaskFormatError, match="booleans"):
        whole_numbers(stored([True]), **WHERE)


@given(st.data(), st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple))
def test_a_plane_has_its_positions(data: st.DataObject, shape: tuple[int, ...]) -> None:
    """In both orders of counting, with some of the positions left out."""
    expected = torch.tensor(data.draw(st.lists(st.booleans(), min_size=(n := torch.Size(shape).numel()), max_size=n)))
    expected = expected.view(shape)
    listed = torch.ones(shape, dtype=torch.bool).nonzero().t()
    flat = flat_positions(listed, shape, **WHERE)
    plane = plane_at(flat, shape, chosen=expected.view(-1), **WHERE)
    assert torch.equal(plane.to_tensor(), expected)
    reverse = expected.permute(*range(len(shape))[::-1]).reshape(-1)
    turned = plane_at(reverse.nonzero().view(-1), shape, column_major=True, **WHERE)
    assert torch.equal(turned.to_tensor(), expected)


@pytest.mark.parametrize(
    ("coordinates", "reason"),
    [
        ([[0, 2], [0, 0]], "lies outside 0 to 1"),
        ([[0, 1], [0, 3]], "lies outside 0 to 2"),
        ([[0, -1], [0, 0]], "lies outside"),
        ([[0, 1]], "expected \\(2, entries\\)"),
        ([0, 1], "expected \\(2, entries\\)"),
    ],
)
def test_coordinates_outside_are_refused(coordinates: Any, reason: str) -> None:
    with pytest.raises(CoreMaskFormatError, match=reason):
        flat_positions(torch.tensor(coordinates), (2, 3), **WHERE)


def test_positions_are_checked() -> None:
    for bad in ([6], [-1], [0, 1 << 60]):
        with pytest.raises(CoreMaskFormatError, match="lies outside 0 to 5"):
            plane_at(torch.tensor(bad), (2, 3), **WHERE)
    with pytest.raises(CoreMaskFormatError, match="stands twice"):
        plane_at(torch.tensor([1, 2, 1]), (2, 3), **WHERE)


def test_refusals() -> None:
    require_shape("file", "w", (2, 3), (2, 3))
    with pytest.raises(CoreMaskMismatchError, match=r"'w' has shape \(2, 3\), and the file's tensor \(3, 2\)"):
        require_shape("file", "w", (3, 2), (2, 3))
    with pytest.raises(CoreMaskFormatError, match="about 'w': why"):
        refuse("file", "w", "why")
