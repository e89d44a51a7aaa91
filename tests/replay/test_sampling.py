"""Sampling draws from the model's distribution, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hf_langcore.replay.sampling import _InverseSampling, continuations, random_numbers
from hf_langcore.replay.settings import ReplaySettings


def drawn(logits: list[float], numbers: np.ndarray, *, temperature: float = 1.0, top_p: float = 1.0) -> list[int]:
    """One token for each number, all from the same logits."""
    scores = torch.tensor([logits] * len(numbers))
    draw = _InverseSampling(torch.from_numpy(numbers[:, None]), 3, temperature=temperature, top_p=top_p)
    left = draw(torch.zeros(len(numbers), 3, dtype=torch.long), scores)
    assert (left.isfinite().sum(-1) == 1).all()
    return left.argmax(-1).tolist()


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (1.0, 0.7), (2.0, 0.6)])
def test_tokens_come_as_often_as_they_are_probable(temperature: float, top_p: float) -> None:
    """Evenly spread numbers give each token its probability, after temperature and nucleus."""
    logits = [0.0, 2.0, 1.0, -1.0, 0.5]
    probabilities = (torch.tensor(logits, dtype=torch.float64) / temperature).softmax(0)
    order = probabilities.argsort(descending=True)
    before = probabilities[order].cumsum(0) - probabilities[order]
    expected = torch.zeros(5, dtype=torch.float64)
    expected[order] = torch.where(before < top_p, probabilities[order], 0)
    numbers = (np.arange(10_000) + 0.5) / 10_000
    counts = np.bincount(drawn(logits, numbers, temperature=temperature, top_p=top_p), minlength=5) / 10_000
    assert np.abs(counts - (expected / expected.sum()).numpy()).max() < 2e-4


def test_numbers_at_the_edges_stay_inside() -> None:
    """Zero is the most probable token, almost one the least probable of the nucleus."""
    edges = np.array([0.0, np.nextafter(1.0, 0.0)])
    assert drawn([3.0, 1.0, 0.0], edges) == [0, 2]
    assert drawn([3.0, 1.0, 0.0], edges, top_p=0.9) == [0, 1]
    assert drawn([3.0, 1.0, 0.0], edges, top_p=0.1) == [0, 0]


def test_a_row_ends_at_its_stop_token_and_padding_is_not_seen(model: Any) -> None:
    """Alone or beside a longer prompt, the same tokens come."""
    prompts = [[0, 70, 71, 72, 73, 74, 75], [0, 80]]
    uniforms = [random_numbers([5, number], 20) for number in range(2)]
    settings = ReplaySettings()
    together = continuations(model, prompts, uniforms, settings, stop_ids=[1], pad_id=9)
    alone = [
        continuations(model, [prompt], [numbers], settings, stop_ids=[1], pad_id=9)[0]
        for prompt, numbers in zip(prompts, uniforms, strict=True)
    ]
    assert together == alone
    stop = together[1][4]
    cut = continuations(model, prompts[1:], uniforms[1:], settings, stop_ids=[stop], pad_id=9)[0]
    assert cut == together[1][: together[1].index(stop)]


def test_random_numbers_depend_on_the_key_alone() -> None:
    """And shorter ones begin the same."""
    assert random_numbers([1, 2], 5).tolist() == random_numbers([1, 2], 9)[:5].tolist()
    assert random_numbers([1, 2], 5).tolist() != random_numbers([2, 1], 5).tolist()
