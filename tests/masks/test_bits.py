"""Packed bits: the same answers as boolean tensors, an eighth of the memory."""

from __future__ import annotations

import math
import operator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hf_langcore.errors import InputError
from hf_langcore.masks import PackedBits, bits_of, unpack_bits

SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9)
PAIRS = SHAPES.flatmap(lambda shape: st.tuples(hnp.arrays(np.bool_, shape), hnp.arrays(np.bool_, shape)))


@given(PAIRS)
def test_algebra_of_packed_bits_is_that_of_booleans(pair: tuple[np.ndarray, np.ndarray]) -> None:
    """&, |, ^, - and ~ give what they give on the unpacked arrays, for every shape, 0-dimensional ones included."""
    a, b = pair
    packed_a, packed_b = PackedBits.from_bool(a), PackedBits.from_bool(b)
    for operation in (operator.and_, operator.or_, operator.xor):
        assert np.array_equal(operation(packed_a, packed_b).to_bool(), operation(a, b))
    assert np.array_equal((packed_a - packed_b).to_bool(), a & ~b)
    assert np.array_equal((~packed_a).to_bool(), ~a)


@given(PAIRS)
def test_laws_of_sets(pair: tuple[np.ndarray, np.ndarray]) -> None:
    """De Morgan's laws hold byte for byte, a - a is empty, and the complement of the complement is the set."""
    a, b = map(PackedBits.from_bool, pair)
    assert (~(a & b)).data.tolist() == (~a | ~b).data.tolist()
    assert (~(a | b)).data.tolist() == (~a & ~b).data.tolist()
    assert (a - a).count() == 0
    assert (~~a).data.tolist() == a.data.tolist()
    assert a.count() + (~a).count() == a.size


@given(SHAPES.flatmap(lambda shape: hnp.arrays(np.bool_, shape)))
def test_packing_and_unpacking_is_the_identity(values: np.ndarray) -> None:
    """Numpy and torch give back the array that was packed; its count and size are kept."""
    packed = PackedBits.from_bool(values)
    assert packed.shape == values.shape
    assert packed.size == values.size
    assert packed.data.nbytes == math.ceil(values.size / 8)
    assert packed.count() == values.sum()
    assert np.array_equal(packed.to_bool(), values)
    assert torch.equal(packed.to_tensor(), torch.from_numpy(values.copy()))
    assert torch.equal(unpack_bits(torch.from_numpy(packed.data.copy()), packed.shape), packed.to_tensor())


def test_layout_is_little_endian_and_unused_bits_are_zero() -> None:
    """Bit i of byte j is entry 8j + i: other code reads the bytes, so the layout is a promise."""
    packed = PackedBits.from_bool(np.array([1, 0, 0, 0, 0, 0, 0, 1, 1, 0], dtype=bool))
    assert packed.data.tolist() == [0b10000001, 0b00000001]
    assert (~packed).data.tolist() == [0b01111110, 0b00000010]


def test_bits_beyond_the_shape_are_ignored_when_unpacking() -> None:
    """A buffer may be padded, for instance to whole blocks."""
    padded = torch.tensor([0b101, 0xFF, 0xFF], dtype=torch.uint8)
    assert unpack_bits(padded, (3,)).tolist() == [True, False, True]


def test_packed_bits_cannot_be_written() -> None:
    """Masks share planes, so nobody may change one."""
    packed = PackedBits.from_bool(np.ones(9, dtype=bool))
    for bits in (packed, ~packed, packed & packed):
        with pytest.raises(ValueError, match="read-only"):
            bits.data[0] = 0
    unpacked = packed.to_tensor()
    unpacked[0] = False
    assert packed.count() == 9


@pytest.mark.parametrize(
    "values",
    [
        torch.zeros(3),
        torch.zeros(3, dtype=torch.bfloat16),
        torch.zeros(3, dtype=torch.uint8),
        np.zeros(3, dtype=np.int64),
    ],
    ids=lambda values: str(values.dtype),
)
def test_only_booleans_are_packed(values: torch.Tensor | np.ndarray) -> None:
    """Scores or 0/1 integers are refused: they would silently mean something else. bfloat16 has no numpy form."""
    with pytest.raises(InputError, match="has dtype bool, got"):
        PackedBits.from_bool(values)


def test_tensors_of_any_layout_are_packed() -> None:
    """Transposed and sliced tensors are read in their logical order."""
    values = torch.rand(7, 5) > 0.5
    assert torch.equal(PackedBits.from_bool(values.T).to_tensor(), values.T)
    assert torch.equal(PackedBits.from_bool(values[::2, 1:]).to_tensor(), values[::2, 1:])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_values_as_integers(dtype: torch.dtype) -> None:
    """-0.0 differs from 0.0, NaN equals itself, and the view writes through."""
    values = torch.tensor([0.0, -0.0, float("nan"), float("nan")], dtype=dtype)
    whole = bits_of(values)
    assert whole[0] != whole[1]
    assert whole[2] == whole[3]
    whole[0] = whole[2]
    assert values[0].isnan()
