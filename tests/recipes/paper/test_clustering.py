"""Overlap of masks, clustering, and whether a diagonal is more than chance."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hf_langcore.errors import InputError
from hf_langcore.masks import CoreMask
from hf_langcore.recipes.paper.clustering import (
    cluster,
    intersections,
    jaccard_of,
    own_excess,
    random_jaccard,
    script_of,
    shared_by,
    within_and_across,
)


def mask(seed: int, density: float = 0.3) -> CoreMask:
    generator = torch.Generator().manual_seed(seed)
    return CoreMask(
        {name: torch.rand(shape, generator=generator) < density for name, shape in (("a", (9, 13)), ("b", (31,)))}
    )


def test_overlaps_are_those_of_the_masks() -> None:
    """Intersections, Jaccard indices and the number of masks that share a weight, against the masks' own algebra."""
    masks = [mask(0), mask(1), mask(2)]
    shared = intersections(masks)
    jaccard = jaccard_of(shared)
    for one, first in enumerate(masks):
        for other, second in enumerate(masks):
            assert shared[one, other] == (first & second).count()
            assert jaccard[one, other] == pytest.approx(first.jaccard(second))
    depths = shared_by(masks)
    union = masks[0] | masks[1] | masks[2]
    assert depths.tolist()[0] == masks[0].numel() - union.count()
    assert depths.tolist()[3] == (masks[0] & masks[1] & masks[2]).count()
    assert depths.sum() == masks[0].numel()
    assert jaccard_of(np.zeros((2, 2), dtype=np.int64)).tolist() == [[1, 1], [1, 1]]


def test_random_jaccard_is_what_random_masks_have() -> None:
    large = CoreMask({"a": torch.rand(400, 400) < 0.05, "b": torch.rand(300, 300) < 0.2})
    drawn = [large.random_like(seed=seed) for seed in range(4)]
    measured = [one.jaccard(other) for one in drawn for other in drawn if one is not other]
    assert random_jaccard(large) == pytest.approx(np.mean(measured), rel=0.05)


def test_cluster() -> None:
    """The closest two join first; leaf i of the tree is row i of the matrix in the order of the leaves."""
    jaccard = np.asarray([[1, 0.1, 0.6, 0.1], [0.1, 1, 0.2, 0.5], [0.6, 0.2, 1, 0.1], [0.1, 0.5, 0.1, 1.0]])
    order, tree = cluster(jaccard)
    assert {frozenset(order[:2]), frozenset(order[2:])} == {frozenset({0, 2}), frozenset({1, 3})}
    one, other, distance, size = tree[0]
    assert {order[int(one)], order[int(other)]} == {0, 2}
    assert (distance, size) == (pytest.approx(0.4), 2)
    assert [step[2:] for step in tree[1:]] == [(pytest.approx(0.5), 2), (pytest.approx(0.875), 4)]
    assert set(tree[2][:2]) == {4.0, 5.0}


def test_own_excess() -> None:
    """Sensitive languages and harmful regions alone give none; a diagonal does, and its p-value counts the orders."""
    additive = np.add.outer([0.1, 0.5, 2.0, 3.0], [0.3, 0.9, 0.2, 4.0])
    assert own_excess(additive) == (pytest.approx(0), 1.0)
    excess, chance = own_excess(additive + 0.8 * np.eye(4))
    assert excess == pytest.approx(0.8 * 3 / 4)
    assert chance == pytest.approx(1 / math.factorial(4))
    assert own_excess(additive - 0.8 * np.eye(4))[1] == 1.0
    assert own_excess(np.eye(9))[1] == pytest.approx(1 / 5000, abs=1e-3)
    assert all(map(math.isnan, own_excess(np.asarray([[math.inf, 1.0], [1.0, 2.0]]))))
    with pytest.raises(InputError, match="two languages"):
        own_excess(np.ones((1, 1)))


def test_writing_systems() -> None:
    """Told from letters, not from digits or signs; means within leave out a language's overlap with itself."""
    assert script_of(["die Katze 123", "猫"]) == "Latin"
    assert script_of(["猫坐在垫子上 a"]) == "Chinese characters"
    assert script_of(["Кот сидит"]) == "Cyrillic"
    assert script_of(["12 + 3"]) == "none"
    jaccard = np.asarray([[1, 0.4, 0.1], [0.4, 1, 0.3], [0.1, 0.3, 1]])
    found = within_and_across(jaccard, ["Latin", "Latin", "Chinese characters"])
    assert found == {
        "Latin": (pytest.approx(0.4), pytest.approx(0.2)),
        "Chinese characters": (None, pytest.approx(0.2)),
    }
