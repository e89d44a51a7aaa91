from __future__ import annotations

from typing import Any

import pytest
import torch

from hf_langcore.exchange.rebuilding import BUILDERS, NumpyType, of_type, whole
from hf_langcore.exchange.stored import Stored


class TenValues:
    numel = 10

    def view(self, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> Stored:
        return Stored(shape, torch.float32, lambda: torch.arange(10.0).as_strided(shape, stride, offset))


build_tensor = BUILDERS["torch._utils _rebuild_tensor_v2"]


def test_a_tensor_is_a_view_of_its_values() -> None:
    found = build_tensor(TenValues(), 1, (2, 3), (1, 3), False, {})
    assert found.read().tolist() == [[1, 4, 7], [2, 5, 8]]
    assert build_tensor(TenValues(), 0, (0, 5), (1, 1)).shape == (0, 5)


@pytest.mark.parametrize(
    ("offset", "shape", "stride"),
    [
        (0, (11,), (1,)),  # past the end
        (5, (6,), (1,)),
        (0, (2, 3), (1, 5)),
        (0, (1 << 40,), (0,)),  # one value, expanded to a terabyte
        (0, (11,), (0,)),
        (0, (2,), (-1,)),
        (-1, (2,), (1,)),
        (0, (-2,), (1,)),
        (0, (True,), (1,)),
        (0, (1.0,), (1,)),
        (0, (1, 1), (1,)),
        (0, (1,) * 9, (1,) * 9),
        (0, (1 << 62,), (1,)),
    ],
)
def test_a_tensor_outside_its_values_is_refused(offset: Any, shape: Any, stride: Any) -> None:
    with pytest.raises(ValueError, match=r"tensor|whole number"):
        build_tensor(TenValues(), offset, shape, stride)


def test_other_layouts_are_refused() -> None:
    sparse = BUILDERS["torch._utils _rebuild_sparse_tensor"]
    one = build_tensor(TenValues(), 0, (2,), (1,))
    assert sparse("torch.sparse_coo", (one, one, (4,), True)).shape == (4,)
    with pytest.raises(ValueError, match="COO"):
        sparse("torch.sparse_csr", (one, one, (4,)))
    with pytest.raises(ValueError, match="COO"):
        sparse("torch.sparse_coo", (one, one, (1,) * 9))
    with pytest.raises(TypeError):
        sparse("torch.sparse_coo", (one, [1], (4,)))


def test_numbers_of_numpy() -> None:
    scalar = BUILDERS["numpy._core.multiarray scalar"]
    assert scalar(NumpyType("i2"), b"\xfe\xff") == -2
    assert scalar(NumpyType("u2", ">"), b"\x01\x00") == 256
    for kind, content in [("i2", b"\x01"), ("O8", b"12345678"), ("V4", b"1234"), ("f8", b"12345678")]:
        with pytest.raises(ValueError, match="whole number"):
            scalar(NumpyType(kind), content)
    with pytest.raises(ValueError, match="latin1"):
        BUILDERS["_codecs encode"]("a", "rot13")


def test_checks() -> None:
    assert whole(3) == 3
    assert of_type(str, "a") == "a"
    for bad in (True, -1, 1.0, "1", 1 << 62):
        with pytest.raises(ValueError, match="whole number"):
            whole(bad)
    with pytest.raises(TypeError, match="expected a str, got a int"):
        of_type(str, 1)
