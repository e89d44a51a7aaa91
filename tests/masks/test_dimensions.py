"""Dimensions: slices that hold more of a mask than chance explains, and hardly ever any other."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hf_langcore.masks import Dimension, PackedBits
from hf_langcore.masks.dimensions import concentrated


def dimensions_of(values: np.ndarray, name: str = "w") -> list[Dimension]:
    return concentrated([(name, PackedBits.from_bool(values))])


def sparse(shape: tuple[int, ...], density: float = 0.01, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape) < density


def test_planted_rows_and_columns_are_found() -> None:
    """A full row and half a column in a sparse random mask, the row first, and nothing else."""
    values = sparse((200, 300))
    values[17] = True
    values[::2, 42] = True
    found = dimensions_of(values)
    assert [(one.parameter, one.axis, one.index) for one in found] == [("w", 0, 17), ("w", 1, 42)]
    assert (found[0].count, found[0].size, found[0].density) == (300, 300, 1.0)
    assert found[1].count == values[:, 42].sum()
    assert found[1].density == found[1].count / 200


def test_random_masks_have_none() -> None:
    """Of 200 random masks at most a few list anything: the bound promises one in a hundred at most."""
    listed = sum(bool(dimensions_of(sparse((50, 60), 0.05, seed))) for seed in range(200))
    assert listed <= 6


def test_vectors_list_their_entries() -> None:
    """Each weight of a norm is a dimension of its own."""
    values = np.zeros(32, dtype=bool)
    values[[3, 20]] = True
    assert [(one.axis, one.index, one.count, one.size) for one in dimensions_of(values)] == [
        (0, 3, 1, 1),
        (0, 20, 1, 1),
    ]


def test_axes_of_experts_are_counted_too() -> None:
    """A 3-D tensor has slices along each of its axes."""
    values = sparse((4, 40, 50))
    values[:, 7, :] = True
    found = dimensions_of(values)
    assert (found[0].axis, found[0].index, found[0].count, found[0].size) == (1, 7, 200, 200)


@pytest.mark.parametrize(
    "values", [np.zeros((5, 6), bool), np.ones((5, 6), bool), np.ones((), bool), np.ones(0, bool)]
)
def test_masks_without_contrast_have_none(values: np.ndarray) -> None:
    """Empty and full tensors concentrate nowhere."""
    assert dimensions_of(values) == []


@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_every_listed_slice_is_denser_than_its_tensor(values: np.ndarray) -> None:
    """Counts are those of the array, evidence is the formula in the docstring, order is by evidence."""
    found = dimensions_of(values)
    for one in found:
        assert one.count == np.take(values, one.index, axis=one.axis).sum()
        assert one.density > values.mean()
        assert one.evidence == pytest.approx(one.size * divergence(one.density, values.mean()))
    evidence = [one.evidence for one in found]
    assert evidence == sorted(evidence, reverse=True)


def divergence(share: float, density: float) -> float:
    """KL divergence of two coins in nats."""
    pairs = ((share, density), (1 - share, 1 - density))
    return sum(p * math.log(p / q) for p, q in pairs if p > 0)


def test_equal_evidence_is_ordered_by_name_axis_and_index() -> None:
    """The list is the same in every run."""
    values = np.zeros(8, dtype=bool)
    values[[1, 6]] = True
    packed = PackedBits.from_bool(values)
    found = concentrated([("b", packed), ("a", packed)])
    assert [(one.parameter, one.index) for one in found] == [("a", 1), ("a", 6), ("b", 1), ("b", 6)]
