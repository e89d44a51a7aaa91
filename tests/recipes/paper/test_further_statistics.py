"""Counts and ranks of relative changes."""

from __future__ import annotations

import math

import pytest
import torch

from hf_langcore.recipes.paper.further_statistics import kind_labels, place, tensor_statistics


def test_a_union_counts_each_weight_once() -> None:
    """A weight that changes in both languages, in one, in none; the threshold itself is not more."""
    changes = {
        "en": torch.tensor([[0.10, 0.01, 0.00], [0.02, 0.50, 0.03]]),
        "zh": torch.tensor([[0.20, 0.04, 0.00], [0.01, 0.00, 0.03]]),
    }
    found = tensor_statistics(changes, (0.01, 0.03, 0.3))
    assert found.size == 6
    assert found.union == (5, 3, 1)
    assert found.share == {"en": (4, 2, 1), "zh": (3, 2, 0)}


def test_quantiles_are_of_single_languages() -> None:
    """Infinite changes, of weights that were 0, do not spoil the others."""
    change = torch.arange(101.0)
    change[100] = math.inf
    found = tensor_statistics({"en": change.flip(0), "zh": change * 2}, (1.0,))
    assert found.quantiles["en"] == (1.0, 25.0, 50.0, 75.0, 99.0)
    assert found.quantiles["zh"] == (2.0, 50.0, 100.0, 150.0, 198.0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.layers.12.self_attn.q_proj.weight", (12, "self_attn.q_proj.weight")),
        ("transformer.h.0.mlp.c_proj.bias", (0, "mlp.c_proj.bias")),
        ("model.layers.3.mlp.experts.7.gate.weight", (3, "mlp.experts.7.gate.weight")),
        ("encoder.weight", (0, "encoder.weight")),
    ],
)
def test_places(name: str, expected: tuple[int, str]) -> None:
    assert place(name) == expected


def test_short_names_stay_different() -> None:
    """Llama's kinds have different last words; GPT-2's have not."""
    llama = ["model.layers.0.self_attn.q_proj.weight", "model.layers.1.self_attn.q_proj.weight"]
    assert kind_labels([*llama, "model.layers.0.input_layernorm.weight"]) == {
        "self_attn.q_proj.weight": "q_proj",
        "input_layernorm.weight": "input_layernorm",
    }
    gpt2 = ["h.0.attn.c_proj.weight", "h.0.mlp.c_proj.weight", "h.0.mlp.c_fc.weight"]
    assert list(kind_labels([f"transformer.{name}" for name in gpt2]).values()) == [
        "attn.c_proj",
        "mlp.c_proj",
        "c_fc",
    ]
