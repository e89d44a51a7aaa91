"""ImportanceScores: float32 tensors by name, with their provenance."""

from __future__ import annotations

import pytest
import torch

from hf_langcore.errors import CoreMaskMismatchError
from hf_langcore.masks import CoreMask, ImportanceScores, Provenance


@pytest.fixture
def scores() -> ImportanceScores:
    return ImportanceScores(
        {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(4)}, provenance=Provenance("taylor", tokens={"en": 8})
    )


def test_it_is_a_mapping(scores: ImportanceScores) -> None:
    """Names in order, tensors by name, a KeyError for others."""
    assert list(scores) == ["a", "b"]
    assert len(scores) == 2
    assert scores["a"].shape == (2, 3)
    assert dict(scores).keys() == scores.keys()
    with pytest.raises(KeyError):
        scores["c"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.int64])
def test_everything_becomes_float32(dtype: torch.dtype) -> None:
    """Whatever the scorer computes in; gradients are cut off."""
    scores = ImportanceScores({"w": torch.nn.Parameter(torch.arange(3).to(dtype), requires_grad=False)})
    assert scores["w"].dtype == torch.float32
    assert scores["w"].tolist() == [0.0, 1.0, 2.0]
    assert not ImportanceScores({"w": torch.ones(2, requires_grad=True)})["w"].requires_grad


def test_sums_over_languages(scores: ImportanceScores) -> None:
    """The sum is a new object; the provenance names both parts; the operands stay."""
    other = ImportanceScores({name: value * 10 for name, value in scores.items()}, provenance=Provenance("magnitude"))
    both = scores + other
    assert torch.equal(both["a"], scores["a"] * 11)
    assert both.provenance.summary() == "(taylor (en) + magnitude)"
    assert scores["b"].tolist() == [1.0] * 4


@pytest.mark.parametrize("tensors", [{"a": torch.ones(2, 3)}, {"a": torch.ones(2, 3), "b": torch.ones(5)}])
def test_scores_of_other_tensors_are_not_added(scores: ImportanceScores, tensors: dict[str, torch.Tensor]) -> None:
    """Neither missing tensors nor broadcasting shapes."""
    with pytest.raises(CoreMaskMismatchError, match="different tensors"):
        scores + ImportanceScores(tensors)


def test_only_scores_are_added(scores: ImportanceScores) -> None:
    """Python's own error for a sum with something else."""
    with pytest.raises(TypeError, match="unsupported operand"):
        scores + 1  # type: ignore[operator]


def test_masks_take_over_the_provenance(scores: ImportanceScores) -> None:
    """And a provenance that is given goes before it."""
    assert CoreMask.from_scores(scores, fraction=0.5).provenance.summary() == "taylor top 50 % (en)"
    given = CoreMask.from_scores(scores, fraction=0.5, provenance=Provenance("mine"))
    assert given.provenance.summary() == "mine top 50 %"


def test_its_repr_is_short(scores: ImportanceScores) -> None:
    """Method, languages and size; not a thousand tensors."""
    assert repr(scores) == "ImportanceScores(taylor (en): 10 weights in 2 tensors)"
    assert ImportanceScores({"w": torch.ones(1)}).provenance == Provenance()
