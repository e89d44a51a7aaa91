from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hf_langcore.errors import InputError
from hf_langcore.exchange.dominated import check_threshold, dominated
from hf_langcore.masks import CoreMask


def mask_with(*counts: int) -> CoreMask:
    """Tensors "0", "1", ... of ten weights with so many core weights."""
    return CoreMask({str(i): torch.arange(10) < count for i, count in enumerate(counts)})


def test_shares_of_groups() -> None:
    mask = mask_with(0, 1, 5, 10)
    groups = {"none": ["0"], "few": ["0", "1"], "half": ["2"], "most": ["2", "3"]}
    assert dominated(mask, groups, None) == {"few": 0.05, "half": 0.5, "most": 0.75}
    assert dominated(mask, groups, 0.5) == {"half": 0.5, "most": 0.75}
    assert dominated(mask, groups, 1.0) == {}


@given(st.integers(0, 10), st.integers(1, 10))
def test_the_threshold_itself_counts(count: int, tenths: int) -> None:
    assert bool(dominated(mask_with(count), {"g": ["0"]}, tenths / 10)) == (count >= tenths)


@pytest.mark.parametrize("bad", [0, -0.1, 1.5, float("nan"), True, "0.5"])
def test_thresholds_that_are_none(bad: Any) -> None:
    with pytest.raises(InputError, match="larger than 0 and at most 1"):
        check_threshold(bad)
    assert check_threshold(1) == 1
    assert check_threshold(None) is None
