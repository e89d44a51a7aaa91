"""CoreMask: an immutable mapping with the laws of sets."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hf_langcore.errors import CoreMaskMismatchError, InputError
from hf_langcore.masks import CoreMask, ImportanceScores, PackedBits, Provenance

Make = Callable[..., CoreMask]


def tensors() -> st.SearchStrategy[CoreMask]:
    arrays = st.tuples(hnp.arrays(np.bool_, (3, 5)), hnp.arrays(np.bool_, (9,)))
    return arrays.map(lambda pair: CoreMask({"a": torch.from_numpy(pair[0]), "b": torch.from_numpy(pair[1])}))


@given(tensors(), tensors(), tensors())
def test_laws_of_sets(a: CoreMask, b: CoreMask, c: CoreMask) -> None:
    """De Morgan, distribution, differences and complements, over whole masks."""
    assert ~(a & b) == ~a | ~b
    assert ~(a | b) == ~a & ~b
    assert a & (b | c) == (a & b) | (a & c)
    assert a - b == a & ~b
    assert a ^ b == (a - b) | (b - a)
    assert (a - a).count() == 0
    assert ~~a == a
    assert a.complement() == ~a
    assert a.count() + (~a).count() == a.numel()


@given(tensors(), tensors())
def test_jaccard_is_symmetric_and_a_share(a: CoreMask, b: CoreMask) -> None:
    """1 for equal masks, also for two empty ones, 0 for disjoint ones."""
    assert 0.0 <= a.jaccard(b) == b.jaccard(a) <= 1.0
    assert a.jaccard(a) == 1.0
    assert (a - a).jaccard(b - b) == 1.0
    if a.count():
        assert a.jaccard(~a) == 0.0


@given(tensors(), tensors())
def test_operations_agree_with_the_tensors(a: CoreMask, b: CoreMask) -> None:
    """Every operation is the boolean one, tensor by tensor."""
    for name in a:
        assert torch.equal((a & b)[name], a[name] & b[name])
        assert torch.equal((a | b)[name], a[name] | b[name])
        assert torch.equal((a ^ b)[name], a[name] ^ b[name])
        assert torch.equal((a - b)[name], a[name] & ~b[name])
        assert torch.equal((~a)[name], ~a[name])


@given(tensors(), tensors())
def test_equality_hash_and_digest_agree(a: CoreMask, b: CoreMask) -> None:
    """Equal masks have one digest and one hash; the order of the tensors plays no part."""
    swapped = CoreMask({name: a[name] for name in reversed(list(a))})
    assert swapped == a
    assert hash(swapped) == hash(a)
    same = all(torch.equal(a[name], b[name]) for name in a)
    assert (a == b) is same
    assert (a.digest() == b.digest()) is same


def test_the_example_of_the_docstring() -> None:
    """It is printed in the documentation, so it has to be right."""
    a = CoreMask({"w": torch.tensor([True, False, True, False])})
    b = CoreMask({"w": torch.tensor([True, True, False, False])})
    assert (a & b)["w"].tolist() == [True, False, False, False]
    assert ((a - b).count(), a.jaccard(b)) == (1, 1 / 3)


def test_it_is_a_mapping(make_mask: Make) -> None:
    """Names in order, fresh boolean tensors by name, KeyError for others, counts in one tensor or in all."""
    mask = make_mask(density=0.5)
    assert list(mask) == ["a.weight", "b.weight", "c.experts"]
    assert len(mask) == 3
    assert "a.weight" in mask
    assert "x" not in mask
    assert mask.shapes() == {name: tuple(tensor.shape) for name, tensor in mask.items()}
    assert {tensor.dtype for tensor in mask.values()} == {torch.bool}
    assert mask.count("b.weight") == int(mask["b.weight"].sum())
    assert mask.count() == sum(int(tensor.sum()) for tensor in mask.values())
    assert mask.density("b.weight") == mask.count("b.weight") / 33
    assert mask.density() == mask.count() / mask.numel()
    with pytest.raises(KeyError):
        mask["x"]


def test_nothing_changes_a_mask(make_mask: Make) -> None:
    """Neither a tensor that came from it nor one that it was made from; a copy is the mask itself."""
    mine = torch.zeros(10, dtype=torch.bool)
    mask = CoreMask({"w": mine})
    mine[0] = True
    mask["w"][1] = True
    assert mask.count() == 0
    assert copy.deepcopy(mask) is mask
    with pytest.raises(TypeError):
        mask["w"] = mine  # type: ignore[index]
    with pytest.raises(AttributeError):
        mask.extra = 1  # type: ignore[attr-defined]


def test_it_can_be_pickled(make_mask: Make) -> None:
    """Data loaders and launchers send it to other processes."""
    mask = make_mask()
    again = pickle.loads(pickle.dumps(mask))  # noqa: S301 our own bytes
    assert again == mask
    assert again.provenance == mask.provenance


def test_masks_of_other_tensors_are_not_combined(make_mask: Make) -> None:
    """The message counts the differing tensors and shows the first one's shapes."""
    mask = make_mask()
    other = CoreMask({**mask, "b.weight": torch.zeros(34, dtype=torch.bool)})
    for combine in (lambda: mask & other, lambda: mask - other, lambda: mask.jaccard(other)):
        with pytest.raises(CoreMaskMismatchError, match=r"1 differ, .*'b.weight' with shape \(33,\) here and \(34,\)"):
            combine()
    with pytest.raises(CoreMaskMismatchError, match="1 differ"):
        mask | other
    with pytest.raises(CoreMaskMismatchError, match="2 differ"):
        mask & mask.restricted_to({"a.weight"})
    with pytest.raises(CoreMaskMismatchError, match="3 differ"):
        mask.restricted_to({"a.weight"}) | mask.restricted_to({"b.weight", "c.experts"})
    with pytest.raises(TypeError, match="unsupported operand"):
        mask & {"a.weight": True}  # type: ignore[operator]
    assert mask != {"a.weight": True}


def test_wrong_tensors_are_refused() -> None:
    """No tensors at all, and tensors that are not boolean."""
    with pytest.raises(InputError, match="at least one tensor"):
        CoreMask({})
    with pytest.raises(InputError, match=r"dtype bool, got torch.float32"):
        CoreMask({"w": torch.ones(3)})


def test_a_part_keeps_bits_and_provenance(make_mask: Make) -> None:
    """`restricted_to` cuts whole tensors."""
    mask = make_mask()
    part = mask.restricted_to({"c.experts", "not there"})
    assert list(part) == ["c.experts"]
    assert torch.equal(part["c.experts"], mask["c.experts"])
    assert part.provenance == mask.provenance


def test_the_random_control_is_as_large(make_mask: Make) -> None:
    """As many weights in each tensor, drawn by seed, and hardly any of the mask's own."""
    mask = make_mask(density=0.1)
    control = mask.random_like(seed=1)
    assert [control.count(name) for name in control] == [mask.count(name) for name in mask]
    assert control == mask.random_like(seed=1)
    assert control != mask.random_like(seed=2)
    assert mask.jaccard(control) < 0.2
    assert control.provenance.operation == "taylor top 5 % (en zh) random of equal size, seed 1"


def test_the_random_control_is_the_random_selection() -> None:
    """`random_like` draws what `which="random"` draws for equal counts: one control, not two."""
    scores = {"w": torch.arange(100.0), "v": torch.arange(50.0)}
    top = CoreMask.from_scores(scores, fraction=0.1)
    assert top.random_like(seed=5) == CoreMask.from_scores(scores, fraction=0.1, which="random", seed=5)


def test_dimensions_are_limited() -> None:
    """A full column of one tensor comes first."""
    values = torch.rand(100, 100) < 0.01
    values[:, 3] = True
    mask = CoreMask({"v": torch.arange(6) < 3, "w": values})
    first = mask.dimensions(limit=1)
    assert [(one.parameter, one.axis, one.index) for one in first] == [("w", 1, 3)]
    assert len(mask.dimensions()) >= 4


@pytest.mark.parametrize(("which", "kept"), [("top", [3, 4]), ("bottom", [0, 1])])
def test_masks_from_scores(which: str, kept: list[int]) -> None:
    """Per tensor, with the selection in the provenance."""
    scores = ImportanceScores({"w": torch.arange(5.0)}, provenance=Provenance("magnitude"))
    mask = CoreMask.from_scores(scores, fraction=0.4, which=which)
    assert mask["w"].nonzero().flatten().tolist() == kept
    assert mask.provenance.summary() == f"magnitude {which} 40 %"
    with pytest.raises(InputError, match="which must be one of"):
        CoreMask.from_scores(scores, fraction=0.4, which="best")


def test_packed_tensors_are_shared() -> None:
    """Packed bits are neither copied nor unpacked on the way in."""
    packed = PackedBits.from_bool(np.ones(9, dtype=bool))
    assert CoreMask({"w": packed}).packed("w") is packed


def test_save_and_load(make_mask: Make, tmp_path: Path) -> None:
    """The two methods that people use, with a string or a path; the details are in test_storage.py."""
    mask = make_mask()
    mask.save_pretrained(str(tmp_path / "new" / "folder"))
    loaded = CoreMask.from_pretrained(tmp_path / "new" / "folder")
    assert loaded == mask
    assert loaded.provenance == mask.provenance


def test_its_repr_says_what_it_is(make_mask: Make) -> None:
    """Method, size and share."""
    mask = CoreMask({"w": torch.arange(1000) < 25}, provenance=make_mask().provenance)
    assert repr(mask) == "CoreMask(taylor top 5 % (en zh): 25 of 1,000 weights (2.5 %) in 1 tensors)"
    assert CoreMask({"w": torch.zeros(0, dtype=torch.bool)}).density() == 0.0
