"""Who is compared with whom, what stands out, and in which order it is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hf_langcore.scanning.candidates import Candidate, norm_candidate, slice_candidate
from hf_langcore.scanning.judging import (
    Measured,
    contains,
    in_order,
    margin_of,
    matched_controls,
    num_spared,
    residual_of,
    spared,
    stands_out,
    typical_rises,
)
from hf_langcore.scanning.losses import WindowLosses
from hf_langcore.scanning.tensors import Tensors

DOWN, UP = "model.layers.0.mlp.down_proj.weight", "model.layers.1.mlp.up_proj.weight"
NORM = "model.layers.1.input_layernorm.weight"


def losses(nll: float) -> WindowLosses:
    return WindowLosses({"en": np.array([10 * nll])}, {"en": np.array([10])})


def measured(candidate: Candidate, rise: float, tensors: Tensors, *, factor: float = 0.0) -> Measured:
    return Measured(
        candidate,
        factor,
        losses(1 + rise),
        losses(1),
        size=candidate.view(tensors).numel(),
        residual=residual_of(candidate, tensors),
        layer=tensors.layer(candidate.parameter),
        is_writer=candidate.kind != "norm" and tensors.matrices[candidate.parameter].is_writer,
    )


@pytest.mark.parametrize(
    ("rise", "others", "most", "expected"),
    [
        (5.0, [1.0, 2.0], 4, True),
        (3.9, [1.0, 2.0], 4, False),
        (5.0, [4.8, 1.0], 4, True),
        (5.0, [4.8, 1.0], 1, False),
        (4.8, [5.0, 1.0], 2, True),
        (5.0, [4.8, 4.6, 4.4, 4.2, 1.0], 4, False),
        (1.0, [5.0, 0.9], 4, False),
        (float("inf"), [3.0], 4, True),
        (float("inf"), [float("inf")], 1, False),
        (0.5, [-0.2, -0.1], 4, True),
        (5.0, [], 4, False),
    ],
)
def test_what_stands_out(rise: float, others: list[float], most: int, expected: bool) -> None:
    """A gap of twice the rise behind at most so many; alone there is nothing to stand out of."""
    assert stands_out(rise, others, most=most) == expected


def test_controls_are_of_the_same_kind_and_not_spared(llama: Any) -> None:
    """Other places of the tensor, the same for one seed."""
    tensors = Tensors.of(llama)
    without = {(NORM, "norm", index) for index in range(20)}
    found = matched_controls(norm_candidate(NORM, 25, "x"), tensors, count=5, seed=1, without=without)
    assert len({one.index for one in found}) == 5
    assert all(20 <= one.index < 32 and one.index != 25 for one in found)
    again = matched_controls(norm_candidate(NORM, 25, "x"), tensors, count=5, seed=1, without=without)
    other = matched_controls(norm_candidate(NORM, 25, "x"), tensors, count=5, seed=2, without=without)
    assert found == again != other
    rows = matched_controls(slice_candidate(DOWN, "row", (3,), "x"), tensors, count=40, seed=0, without=set())
    assert {one.index for one in rows} == set(range(32)) - {3}


def test_controls_of_a_weight_are_alike(llama: Any) -> None:
    """The largest others of its row and column, then the nearest in magnitude."""
    tensors = Tensors.of(llama)
    values = tensors.matrices[DOWN].values()
    found = matched_controls(slice_candidate(DOWN, "weight", (3, 7), "x"), tensors, count=8, seed=0, without=set())
    row, column = values[3].abs().clone(), values[:, 7].abs().clone()
    row[7] = column[3] = 0
    assert {one.index for one in found[:4]} == {
        *((3, int(one)) for one in row.topk(2).indices),
        *((int(one), 7) for one in column.topk(2).indices),
    }
    distance = (values.abs() - values[3, 7].abs()).abs()
    limit = distance.flatten().topk(13, largest=False).values.max()
    assert all(distance[one.index] <= limit for one in found[4:])
    spared_place = found[0].place
    less = matched_controls(
        slice_candidate(DOWN, "weight", (3, 7), "x"), tensors, count=8, seed=0, without={spared_place}
    )
    assert spared_place not in {one.place for one in less}


def test_few_are_spared(llama: Any) -> None:
    """The strongest of each tensor, kind and factor; an eighth of 32 gains."""
    tensors = Tensors.of(llama)
    found = [measured(norm_candidate(NORM, index, "x"), 9.0 - index, tensors) for index in range(9)]
    assert spared(found, tensors) == {(NORM, "norm", index) for index in range(4)}
    assert num_spared(tensors, DOWN, "column") == 6
    assert num_spared(tensors, DOWN, "weight") == 8


def test_order_of_what_does_equally_much(llama: Any) -> None:
    """The weight before the row and the column that contain it and the gain that reads it, unless these do far more."""
    tensors = Tensors.of(llama)
    weight = measured(slice_candidate(DOWN, "weight", (5, 7), "x"), 4.0, tensors)
    row = measured(slice_candidate(DOWN, "row", (5,), "x"), 4.1, tensors)
    column = measured(slice_candidate(DOWN, "column", (7,), "x"), 4.2, tensors)
    gain = measured(norm_candidate(NORM, 5, "x"), 6.0, tensors)
    reader = measured(slice_candidate(UP, "weight", (2, 9), "x"), 4.0, tensors)
    assert in_order([row, column, gain, reader, weight], destroyed=99)[0] is weight
    far = measured(norm_candidate(NORM, 5, "x"), 9.0, tensors)
    assert in_order([weight, far], destroyed=99) == [far, weight]
    assert in_order([weight, far], destroyed=3) == [weight, far]
    strong = measured(norm_candidate(NORM, 8, "x"), 5.0, tensors)
    assert in_order([weight, strong, row], destroyed=99) == [strong, weight, row]
    own = measured(slice_candidate(DOWN, "row", (8,), "x"), 8.0, tensors)
    assert in_order([own, strong], destroyed=99) == [strong, own]


def test_what_contains_what() -> None:
    """Rows and columns of the same tensor and expert."""
    weight = slice_candidate("w", "weight", (2, 5, 7), "x")
    assert contains(slice_candidate("w", "row", (2, 5), "x"), weight)
    assert contains(slice_candidate("w", "column", (2, 7), "x"), weight)
    assert not contains(slice_candidate("w", "row", (1, 5), "x"), weight)
    assert not contains(slice_candidate("v", "row", (2, 5), "x"), weight)
    assert not contains(weight, weight)


def test_residual_dimensions(llama: Any) -> None:
    """Rows of writers, columns of readers, gains as long as the residual stream."""
    tensors = Tensors.of(llama)
    places = {
        slice_candidate(DOWN, "row", (5,), "x"): 5,
        slice_candidate(DOWN, "column", (5,), "x"): None,
        slice_candidate(DOWN, "weight", (5, 9), "x"): 5,
        slice_candidate(UP, "column", (5,), "x"): 5,
        slice_candidate(UP, "row", (5,), "x"): None,
        slice_candidate(UP, "weight", (9, 5), "x"): 5,
        norm_candidate(NORM, 5, "x"): 5,
    }
    for candidate, expected in places.items():
        assert residual_of(candidate, tensors) == expected


def test_what_is_usual(llama: Any) -> None:
    """In the tensor where enough was measured, else in all of the kind; never below what can be told apart."""
    tensors = Tensors.of(llama)
    many = [measured(norm_candidate(NORM, index, "x"), float(index), tensors) for index in range(9)]
    few = [measured(norm_candidate("model.norm.weight", 0, "x"), 100.0, tensors)]
    quiet = [measured(slice_candidate(DOWN, "row", (0,), "x"), -1.0, tensors)]
    found = typical_rises([*many, *few, *quiet])
    assert found[NORM, "norm", 0.0] == pytest.approx(4.0)
    assert found["model.norm.weight", "norm", 0.0] == pytest.approx(4.5)
    assert found[DOWN, "row", 0.0] == 0.02
    assert torch.is_tensor(quiet[0].candidate.view(tensors))


def test_gains_need_a_smaller_gap() -> None:
    """They are few: of single weights one sees the strongest of thousands."""
    assert margin_of("norm") < margin_of("weight") == margin_of("row")
    assert stands_out(3.9, [1.0, 2.0], most=4, margin=margin_of("norm"))
    assert not stands_out(2.9, [1.5, 2.0], most=4, margin=margin_of("norm"))
