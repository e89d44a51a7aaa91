"""Counting changed weights on bits."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hf_langcore.importance import compute_core_mask
from hf_langcore.recipes.bits import copy_weights, count_changed

NAME = "model.layers.0.mlp.up_proj.weight"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_changes_are_counted_where_they_are(llama: Any, dtype: torch.dtype) -> None:
    """A sign of zero and a NaN are changes, a NaN that stays is none; core and complement are told apart."""
    llama.to(dtype)
    mask = compute_core_mask(llama, method="random", fraction=0.3)
    weight = llama.get_parameter(NAME)
    inside, outside = mask[NAME].nonzero(), (~mask[NAME]).nonzero()
    with torch.no_grad():
        weight[tuple(inside[0])] = 0.0
        weight[tuple(inside[1])] = float("nan")
    before = copy_weights(llama, mask)
    assert count_changed(llama, before, mask) == (0, 0)
    with torch.no_grad():
        weight[tuple(inside[0])] = -0.0
        weight[tuple(outside[0])] = float("nan")
        weight[tuple(outside[1])] += 1
    assert count_changed(llama, before, mask) == (1, 2)
