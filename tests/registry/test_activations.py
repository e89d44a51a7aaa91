"""Massive activations that a source reports."""

from __future__ import annotations

import torch

from hf_langcore.registry.activations import elsewhere
from hf_langcore.sinks.massive import Activations


def noted(width: int) -> Activations:
    dimensions = {0: (3, 5), 1: (5,)}
    prefixes = {(0, 3): frozenset({11}), (0, 5): frozenset({12}), (1, 5): frozenset({13})}
    means = {0: (1.0, 2.0), 1: (3.0,)}
    return Activations(dimensions, width, "massive", means, means, prefixes)


def test_controls_lie_at_the_same_tokens_in_other_dimensions() -> None:
    """Each dimension has one partner in all layers, none of them massive itself."""
    for seed in range(20):
        other = elsewhere(noted(8), avoid={3, 5, 6}, generator=torch.Generator().manual_seed(seed))
        assert other is not None
        first, second = other.dimensions[0]
        assert other.dimensions[1] == (second,)
        assert first != second
        assert not {first, second} & {3, 5, 6}
        assert other.prefixes == {(0, first): {11}, (0, second): {12}, (1, second): {13}}
    assert elsewhere(noted(8), avoid={0, 1, 2, 3, 4, 5, 6}, generator=torch.Generator()) is None
