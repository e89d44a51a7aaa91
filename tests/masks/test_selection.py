"""Selection by score: exact counts, ties by lowest index, random masks that anybody can draw again."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hf_langcore.errors import InputError, NonFiniteError
from hf_langcore.masks import CoreMask
from hf_langcore.masks.selection import check_fraction, check_which, random_positions, select

SCORES = hnp.arrays(
    np.float32,
    hnp.array_shapes(max_dims=3, max_side=12),
    elements=st.floats(allow_nan=False, width=32),
)
FEW_VALUES = hnp.arrays(np.float32, st.integers(1, 60), elements=st.sampled_from([0.0, -0.0, 1.0, 2.0, np.inf]))
FRACTIONS = st.floats(0.001, 0.999)


def chosen(scores: torch.Tensor, fraction: float, which: Any = "top", name: str = "w", seed: int = 0) -> torch.Tensor:
    return select(name, scores, fraction=fraction, which=which, seed=seed).to_tensor()


@given(SCORES, FRACTIONS, st.sampled_from(["top", "bottom", "random"]))
def test_the_count_is_exact(scores: np.ndarray, fraction: float, which: str) -> None:
    """Always int(fraction * numel) entries, however many ties or infinities there are."""
    mask = chosen(torch.from_numpy(scores), fraction, which)
    assert mask.shape == scores.shape
    assert int(mask.sum()) == int(fraction * scores.size)


@given(SCORES, FRACTIONS)
def test_the_chosen_scores_are_those_of_topk(scores: np.ndarray, fraction: float) -> None:
    """The selected values equal torch.topk's as a multiset, so the sets are equal up to ties."""
    flat = torch.from_numpy(scores).reshape(-1)
    count = int(fraction * flat.numel())
    for which, largest in (("top", True), ("bottom", False)):
        expected = flat.topk(count, largest=largest).values.sort().values
        assert torch.equal(flat[chosen(flat, fraction, which)].sort().values, expected)


@given(FEW_VALUES, FRACTIONS)
def test_ties_go_to_the_lowest_index(scores: np.ndarray, fraction: float) -> None:
    """The same as a stable sort: of equal scores, -0.0 and 0.0 among them, the first are taken."""
    count = int(fraction * scores.size)
    for which, order in (("top", np.argsort(-scores, kind="stable")), ("bottom", np.argsort(scores, kind="stable"))):
        expected = np.zeros(scores.size, dtype=bool)
        expected[order[:count]] = True
        assert chosen(torch.from_numpy(scores), fraction, which).tolist() == expected.tolist()


@given(
    hnp.arrays(np.float32, st.integers(1, 80), elements=st.floats(0, 1e6, width=32)),
    st.integers(-8, 8),
    FRACTIONS,
)
def test_positive_scaling_changes_nothing(scores: np.ndarray, power: int, fraction: float) -> None:
    """Only the order counts: scores times a power of two select the same weights."""
    scores = np.where(scores < 2.0**-100, np.float32(0), scores)  # so that scaling does not underflow
    scaled = torch.from_numpy(scores * np.float32(2.0**power))
    assert torch.equal(chosen(torch.from_numpy(scores), fraction), chosen(scaled, fraction))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_every_float_dtype_is_ranked_exactly(dtype: torch.dtype) -> None:
    """No dtype is rounded before the comparison, float64 included."""
    scores = torch.arange(64).flip(0).to(dtype)
    assert chosen(scores, 0.25).nonzero().flatten().tolist() == list(range(16))
    assert chosen(scores, 0.25, "bottom").nonzero().flatten().tolist() == list(range(48, 64))
    nearly = torch.ones(4, dtype=dtype)
    nearly[3] += torch.finfo(dtype).eps
    assert chosen(nearly, 0.25).tolist() == [False, False, False, True]


def test_infinities_are_ordered() -> None:
    """An overflowed score is the most important one; it is no reason to stop."""
    scores = torch.tensor([1.0, math.inf, -math.inf, 0.0])
    assert chosen(scores, 0.25).tolist() == [False, True, False, False]
    assert chosen(scores, 0.25, "bottom").tolist() == [False, False, True, False]


@pytest.mark.parametrize("which", ["top", "bottom"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_nan_is_refused_by_name(which: str, dtype: torch.dtype) -> None:
    """NaN has no rank; the message names the tensor."""
    scores = torch.tensor([1.0, math.nan, 2.0], dtype=dtype)
    with pytest.raises(NonFiniteError, match=r"'model\.w' contain NaN"):
        chosen(scores, 0.5, which, name="model.w")


def test_scores_that_require_gradients_are_accepted() -> None:
    """Scores may come straight from parameters, and are left as they are."""
    parameter = torch.nn.Parameter(torch.arange(8.0))
    assert int(chosen(parameter, 0.5).sum()) == 4
    assert torch.equal(parameter.detach(), torch.arange(8.0))


def test_a_short_vector_may_get_none() -> None:
    """int(0.01 * 10) is 0, as in the published code."""
    assert not chosen(torch.rand(10), 0.01).any()
    assert chosen(torch.rand(0), 0.5).shape == (0,)


@pytest.mark.parametrize("fraction", [0, 1, -1, 2, 0.0, 1.0, True, "x", None, math.nan, math.inf])
def test_fractions_outside_the_open_interval_are_refused(fraction: Any) -> None:
    """Nothing, everything and no number are mistakes, whoever asks."""
    with pytest.raises(InputError, match="strictly between 0 and 1"):
        check_fraction(fraction)
    with pytest.raises(InputError, match="strictly between 0 and 1"):
        CoreMask.from_scores({"w": torch.rand(8)}, fraction=fraction)


def test_unknown_ways_of_selecting_are_refused() -> None:
    """The message lists the three that there are."""
    assert check_which("bottom") == "bottom"
    with pytest.raises(InputError, match=r"\['top', 'bottom', 'random'\], got 'best'"):
        check_which("best")


def test_random_masks_do_not_depend_on_the_order_of_tensors() -> None:
    """Each tensor draws by its own name: the same mask comes from any order and from a part of the model."""
    scores = {name: torch.zeros(200) for name in ("a", "b", "c")}
    forward = CoreMask.from_scores(scores, fraction=0.1, which="random", seed=3)
    backward = CoreMask.from_scores(dict(reversed(scores.items())), fraction=0.1, which="random", seed=3)
    alone = CoreMask.from_scores({"b": scores["b"]}, fraction=0.1, which="random", seed=3)
    assert forward == backward
    assert torch.equal(alone["b"], forward["b"])
    assert not torch.equal(forward["a"], forward["b"])


def test_random_masks_depend_on_the_seed_alone() -> None:
    """The scores play no part; another seed gives another mask."""
    first = chosen(torch.zeros(500), 0.1, "random", seed=1)
    assert torch.equal(first, chosen(torch.full((500,), math.nan), 0.1, "random", seed=1))
    assert not torch.equal(first, chosen(torch.zeros(500), 0.1, "random", seed=2))


def test_random_positions_stay_what_they_are() -> None:
    """Published masks name a seed only, so the draw must not change between versions."""
    assert sorted(random_positions("model.layers.0.w", 1000, 5, seed=7).tolist()) == [102, 257, 346, 759, 810]


def test_random_positions_are_uniform() -> None:
    """Over many seeds every position is drawn about equally often."""
    counts = np.zeros(20)
    for seed in range(1000):
        counts[random_positions("w", 20, 5, seed=seed)] += 1
    assert np.abs(counts - 250).max() < 5 * math.sqrt(1000 * 0.25 * 0.75)
