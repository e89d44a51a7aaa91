"""Places: what they cover, and how they are named, drawn from rankings and refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hf_langcore.errors import InputError
from hf_langcore.scanning.candidates import (
    given_candidate,
    interleave,
    largest,
    norm_candidate,
    require_kinds,
    slice_candidate,
)
from hf_langcore.scanning.result import CriticalDimension
from hf_langcore.scanning.tensors import Tensors

DOWN = "model.layers.1.mlp.down_proj.weight"


def test_views_cover_rows_columns_and_weights(llama: Any, gpt2: Any) -> None:
    """In nn.Linear orientation, also where the tensor is stored the other way round."""
    for model, name in ((llama, DOWN), (gpt2, "transformer.h.1.mlp.c_proj.weight")):
        tensors = Tensors.of(model)
        stored = dict(model.named_parameters())[name].detach()
        oriented = stored.T if tensors.matrices[name].is_transposed else stored
        assert tensors.matrices[name].is_transposed == (model is gpt2)
        assert oriented.shape[0] == 32
        row, column = slice_candidate(name, "row", (3,), "x"), slice_candidate(name, "column", (40,), "x")
        assert torch.equal(row.view(tensors), oriented[3])
        assert torch.equal(column.view(tensors), oriented[:, 40])
        weight = slice_candidate(name, "weight", (3, 40), "x")
        weight.view(tensors).fill_(7.0)
        assert oriented[3, 40] == 7
        assert (weight.axis, row.axis, column.axis) == (None, 0, 1)


def test_the_largest_places() -> None:
    """Strongest first, with the index in the shape of the scores; NaN is nothing."""
    scores = torch.tensor([[1.0, 9.0], [float("nan"), 3.0]])
    found = largest("w", "weight", scores, "x", count=3)
    assert [(one.index, one.score) for one in found] == [((0, 1), 9.0), ((1, 1), 3.0), ((0, 0), 1.0)]
    assert [one.index for one in largest("n", "norm", torch.tensor([1.0, 5.0]), "x", count=9)] == [1, 0]


def test_rankings_take_turns() -> None:
    """The first of each, then the second; each place once, with everybody who names it, also beyond the limit."""
    one, two, three = (norm_candidate("n", index, "a") for index in range(3))
    again = norm_candidate("n", 0, "b")
    found = interleave([[one, two], [three, again]], limit=2)
    assert [(each.index, each.sources) for each in found] == [(0, ("a", "b")), (2, ("a",))]
    assert len(interleave([[one, two], [three]], limit=None)) == 3


def test_named_dimensions(llama: Any) -> None:
    """In all the forms in which other parts of the library take them."""
    tensors = Tensors.of(llama)
    assert given_candidate(llama, tensors, ("model.norm", 3)).place == ("model.norm.weight", "norm", 3)
    assert given_candidate(llama, tensors, (DOWN, 3, 0)).place == (DOWN, "row", 3)
    assert given_candidate(llama, tensors, (DOWN, 47, 1)).place == (DOWN, "column", 47)
    assert given_candidate(llama, tensors, (DOWN, (3, 47))).place == (DOWN, "weight", (3, 47))
    found = CriticalDimension(DOWN, 1, 4, 0.0, 2.0, 1.0, kind="column")
    assert given_candidate(llama, tensors, found).place == (DOWN, "column", 4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("model.norm", 32), r"0 to 31, got 32"),
        (("model.norm", -1), r"0 to 31"),
        (("model.norm", 1.5), "whole number"),
        ((DOWN, 3), "say which axis"),
        ((DOWN, 32, 0), r"0 to 31"),
        ((DOWN, (3, 48)), r"0 to 31 x 0 to 47"),
        ((DOWN, (3, 4, 5), 0), r"0 to 31"),
        (("model.nrm", 3), r"no parameter 'model.nrm'.*model.norm"),
        (("model.embed_tokens", 3, 0), "neither a norm gain nor a matrix"),
        (("model.norm",), "A dimension is"),
        ("model.norm", "A dimension is"),
    ],
)
def test_dimensions_out_of_range(llama: Any, given: Any, message: str) -> None:
    """Each message says what there is."""
    with pytest.raises(InputError, match=message):
        given_candidate(llama, Tensors.of(llama), given)


def test_kinds() -> None:
    """One or several words."""
    assert require_kinds("norm") == ("norm",)
    assert require_kinds(["row", "weight"]) == ("row", "weight")
    for wrong in ((), ("rows",)):
        with pytest.raises(InputError, match="kinds are some of"):
            require_kinds(wrong)
