"""Fingerprints: the same for every dtype that holds the values, another for every other change."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hf_langcore.masks import Fingerprint, fingerprint


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    values = {"a": torch.randn(40, 50, generator=generator), "b": torch.randn(7, generator=generator)}
    return {name: value.bfloat16().float() for name, value in values.items()}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_dtype_of_the_load_does_not_matter(tensors: dict[str, torch.Tensor], dtype: torch.dtype) -> None:
    """A bfloat16 checkpoint has one fingerprint, loaded in float32, bfloat16, float16 or float64."""
    assert fingerprint({name: value.to(dtype) for name, value in tensors.items()}) == fingerprint(tensors)


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=50))
def test_float32_and_bfloat16_loads_agree_for_any_values(values: list[float]) -> None:
    """A float32 checkpoint that is loaded in bfloat16 is rounded as the fingerprint rounds."""
    tensor = torch.tensor(values)
    assert fingerprint({"w": tensor}) == fingerprint({"w": tensor.bfloat16()})


@given(st.lists(st.floats(-6e4, 6e4, width=32), min_size=1, max_size=50))
def test_bfloat16_values_survive_float16(values: list[float]) -> None:
    """Also those too small for float16 to hold exactly, which count as zero."""
    tensor = torch.tensor(values).bfloat16()
    assert fingerprint({"w": tensor}) == fingerprint({"w": tensor.half()})


def test_the_sign_of_zero_does_not_matter() -> None:
    """-0.0 and 0.0 are the same weight, and numbers below 2 ** -16 are zeros."""
    zeros = fingerprint({"w": torch.zeros(3)})
    assert fingerprint({"w": torch.tensor([-0.0, 1e-6, -1e-6])}) == zeros
    assert fingerprint({"w": torch.tensor([0.0, 2.0**-16, 0.0])}) != zeros


@pytest.mark.parametrize("index", [0, 3, 1999])
def test_one_sampled_weight_changes_it(tensors: dict[str, torch.Tensor], index: int) -> None:
    """Tensors below two thousand weights are sampled whole, so any changed weight shows."""
    changed = {**tensors, "a": tensors["a"].clone()}
    changed["a"].view(-1)[index] += 1
    assert fingerprint(tensors).differing(fingerprint(changed)) == ["a"]
    assert fingerprint(tensors).total != fingerprint(changed).total


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: {"c" if name == "b" else name: value for name, value in tensors.items()},
        lambda tensors: {**tensors, "a": tensors["a"].view(50, 40)},
        lambda tensors: {"a": tensors["a"]},
    ],
    ids=["name", "shape", "missing"],
)
def test_names_and_shapes_belong_to_it(
    tensors: dict[str, torch.Tensor], change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]
) -> None:
    """The same numbers under another name or in another shape are other weights."""
    other = fingerprint(change(tensors))
    assert other.total != fingerprint(tensors).total
    assert len(fingerprint(tensors).differing(other)) == 1


def test_order_and_layout_do_not_matter(tensors: dict[str, torch.Tensor]) -> None:
    """Neither the order of the tensors nor how they lie in memory."""
    mixed = {"b": tensors["b"], "a": tensors["a"].T.contiguous().T}
    assert fingerprint(mixed).total == fingerprint(tensors).total


def test_it_stays_what_it_is() -> None:
    """Published masks carry it, so the algorithm must not change under the same name."""
    sampled = torch.arange(3000.0)[::2].bfloat16().float().numpy()  # every second: 3000 // 1024
    digest = hashlib.sha256(b"w|[60, 50]|" + sampled.tobytes()).hexdigest()[:16]
    expected = Fingerprint({"w": digest}, "sha256/bfloat16/strided-1024")
    assert fingerprint({"w": torch.arange(3000.0).view(60, 50)}) == expected
    assert Fingerprint(expected.tensors, "other").total != expected.total


def test_a_large_tensor_costs_milliseconds() -> None:
    """Only a sample is read: the time does not grow with the tensor."""
    large = torch.zeros(1).expand(1 << 14, 1 << 12).contiguous()
    begin = time.perf_counter()
    fingerprint({"w": large})
    assert time.perf_counter() - begin < 0.5


def test_empty_and_scalar_tensors_have_one() -> None:
    """Models hold such parameters: a scalar gate, an empty bias."""
    assert fingerprint({"w": torch.zeros(0)}) != fingerprint({"w": torch.zeros(())})
