"""Candidates without any text."""

from __future__ import annotations

from typing import Any

import torch

from hf_langcore.scanning.from_weights import weight_candidates
from hf_langcore.scanning.tensors import Tensors


def firsts(model: Any) -> set[Any]:
    return {ranking[0].place for ranking in weight_candidates(Tensors.of(model))}


def test_outliers_lead_their_rankings(llama: Any) -> None:
    """A gain, an entry, a row and a column."""
    with torch.no_grad():
        llama.model.layers[1].input_layernorm.weight[5] = 9.0
        llama.model.layers[0].self_attn.q_proj.weight[3, 7] = 50.0
    found = firsts(llama)
    name = "model.layers.0.self_attn.q_proj.weight"
    assert ("model.layers.1.input_layernorm.weight", "norm", 5) in found
    assert {(name, "weight", (3, 7)), (name, "row", 3), (name, "column", 7)} <= found


def test_a_super_weight_of_a_strong_neuron(llama: Any, gpt2: Any) -> None:
    """An ordinary entry of down_proj matters where the rows of its neuron are large, with a gate and without."""
    with torch.no_grad():
        llama.model.layers[1].mlp.gate_proj.weight[11] *= 20
        llama.model.layers[1].mlp.down_proj.weight[4, 11] = 2.0
        gpt2.transformer.h[0].mlp.c_fc.weight[:, 11] *= 20
        gpt2.transformer.h[0].mlp.c_proj.weight[11, 4] = 2.0
    assert ("model.layers.1.mlp.down_proj.weight", "weight", (4, 11)) in firsts(llama)
    assert ("transformer.h.0.mlp.c_proj.weight", "weight", (4, 11)) in firsts(gpt2)


def test_rankings_are_sorted_and_limited(llama: Any) -> None:
    """Strongest first."""
    for ranking in weight_candidates(Tensors.of(llama), limit=3):
        assert len(ranking) <= 3
        assert [one.score for one in ranking] == sorted((one.score for one in ranking), reverse=True)
