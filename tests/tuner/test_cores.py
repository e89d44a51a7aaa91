from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hf_langcore.masks import PackedBits
from hf_langcore.tuner.cores import SPARSE_BELOW, LayerCore


def _core(mask: torch.Tensor) -> LayerCore:
    return LayerCore(torch.from_numpy(PackedBits.from_bool(mask).data.copy()), tuple(mask.shape))


def _mask(*shape: int, share: float, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share


@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    stack=st.integers(0, 3),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_indices_and_bits_say_the_same(rows: int, columns: int, stack: int, share: float, seed: int) -> None:
    """Whatever the shape and the share, the entries are those of the mask, in order, row by row."""
    mask = _mask(*([stack] if stack else []), rows, columns, share=share, seed=seed)
    core = _core(mask)
    assert torch.equal(core.mask(), mask)
    assert core.count() == int(mask.sum())
    assert (core.index is not None) == (int(mask.sum()) <= SPARSE_BELOW * mask.numel())
    if core.index is not None:
        assert torch.equal(core.index.flat.long(), mask.view(-1).nonzero().squeeze(1))
        in_rows = mask.reshape(-1, columns).sum(1)
        assert torch.equal(core.index.row_starts.diff().long(), in_rows)
        assert core.index.busy_rows == int((in_rows > 0).sum())


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(9, 13), (3, 5, 8)])
def test_keeping_copies_bits(share: float, shape: tuple[int, ...]) -> None:
    """The core of the original arrives bit for bit, -0.0 and NaN too; the rest is the changed one's."""
    mask = _mask(*shape, share=share)
    original, changed = torch.full(shape, -0.0), torch.randn(shape)
    original.view(-1)[::3] = float("nan")
    expected = torch.where(mask, original, changed).view(torch.int32)
    kept = _core(mask).keep(changed.clone(), original)
    assert torch.equal(kept.view(torch.int32), expected)


@pytest.mark.parametrize("share", [0.02, 0.5])
def test_keeping_and_clearing_take_any_layout(share: float) -> None:
    """Transposed tensors are not contiguous; positions in the flattened weight would hit the wrong entries there."""
    mask = _mask(9, 13, share=share)
    core, original, changed = _core(mask), torch.randn(13, 9).t(), torch.randn(13, 9).t()
    assert torch.equal(
        core.keep(changed.clone(memory_format=torch.preserve_format), original), torch.where(mask, original, changed)
    )
    assert torch.equal(core.clear(changed.clone(memory_format=torch.preserve_format)), changed.masked_fill(mask, 0))


def test_rows_of_tokens() -> None:
    """Each token gets the mask of its row, in the tokens' shape."""
    mask = _mask(11, 7, share=0.4)
    tokens = torch.tensor([[0, 10, 3], [3, 3, 1]])
    assert torch.equal(_core(mask).rows(tokens), mask[tokens])


def test_large_cores_cost_no_indices_and_small_ones_few_bytes() -> None:
    """A 1 % core takes 4 bytes for each entry and each row beside the packed bits."""
    mask = _mask(400, 500, share=0.01)
    index: Any = _core(mask).index
    assert index.flat.dtype == index.row_starts.dtype == torch.int32
    assert index.flat.numel() + index.row_starts.numel() == int(mask.sum()) + 401
    assert _core(_mask(40, 50, share=0.5)).index is None


def test_sampled_products_are_entries_of_the_product() -> None:
    """Only the core's entries are computed, and they are the product's."""
    mask = _mask(30, 20, share=0.05)
    left, right = torch.randn(30, 4), torch.randn(4, 20)
    index: Any = _core(mask).index
    expected = torch.where(mask, left @ right, torch.zeros(()))
    torch.testing.assert_close(index.sampled(left, right).to_dense(), expected)


def test_cores_can_be_copied() -> None:
    """A layer with its core in use can be copied and pickled."""
    core = _core(_mask(30, 20, share=0.05))
    for other in (copy.deepcopy(core), pickle.loads(pickle.dumps(core))):  # noqa: S301 its own bytes
        assert torch.equal(other.mask(), core.mask())
    assert core.to(torch.device("cpu")) is core
