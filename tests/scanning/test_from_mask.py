"""Candidates from the concentration of a mask."""

from __future__ import annotations

from typing import Any

import torch

from hf_langcore.masks import CoreMask
from hf_langcore.scanning.from_mask import mask_candidates
from hf_langcore.scanning.tensors import Tensors


def test_rows_columns_and_gains(llama: Any) -> None:
    """Where the mask concentrates; embeddings, which are not scanned, are passed over."""
    name, norm = "model.layers.0.mlp.down_proj.weight", "model.layers.1.input_layernorm.weight"
    matrix, gains = torch.zeros(32, 48, dtype=torch.bool), torch.zeros(32, dtype=torch.bool)
    matrix[:, 9] = True
    gains[3] = True
    embeddings = torch.zeros(120, 32, dtype=torch.bool)
    embeddings[4] = True
    mask = CoreMask({name: matrix, norm: gains, "model.embed_tokens.weight": embeddings})
    found = mask_candidates(Tensors.of(llama), mask)
    assert [[one.place for one in ranking] for ranking in found] == [[(norm, "norm", 3)], [(name, "column", 9)]]
    assert found[1][0].sources == ("mask",)
