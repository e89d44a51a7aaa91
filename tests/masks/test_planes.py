"""Tensors in their stored form: decoded when asked for, shared while somebody holds them."""

from __future__ import annotations

import copy
import gc
import hashlib
import pickle
from collections.abc import Iterator, Mapping

import numpy as np
import pytest
import torch

from hf_langcore.errors import CoreMaskFormatError
from hf_langcore.masks import PackedBits
from hf_langcore.masks.coding import Coded
from hf_langcore.masks.planes import Computed, Planes


def values_of(seed: int, shape: tuple[int, ...] = (60, 70), density: float = 0.03) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).random(shape) < density)


def test_they_map_names_to_packed_bits() -> None:
    """Of tensors, arrays and packed bits, in their order, with counts and shapes that need no decoding."""
    a, b = values_of(0), values_of(1, (5, 0))
    planes = Planes.of({"b": torch.from_numpy(b), "a": a, "c": PackedBits.from_bool(~a)})
    assert list(planes) == ["b", "a", "c"]
    assert len(planes) == 3
    assert "a" in planes
    assert "x" not in planes
    assert np.array_equal(planes["a"].to_bool(), a)
    assert torch.equal(planes.tensor("c"), torch.from_numpy(~a))
    assert planes.shapes() == {"b": (5, 0), "a": (60, 70), "c": (60, 70)}
    assert [planes.count(name) for name in planes] == [0, a.sum(), (~a).sum()]
    assert [planes.size(name) for name in planes] == [0, 4200, 4200]
    with pytest.raises(KeyError):
        planes["x"]


def test_packed_bits_live_as_long_as_somebody_holds_them() -> None:
    """The same object for all who hold it; afterwards only the stored form is left, a fraction of it."""
    planes = Planes.of({"w": values_of(0, (300, 400), 0.01)})
    first = planes["w"]
    assert planes["w"] is first
    assert torch.equal(planes.tensor("w"), first.to_tensor())
    del first
    gc.collect()
    assert not planes._alive
    assert planes.nbytes() < 300 * 400 / 8 / 8


def test_given_packed_bits_are_given_back() -> None:
    """They are there already."""
    packed = PackedBits.from_bool(values_of(0))
    assert Planes.of({"w": packed})["w"] is packed
    planes = Planes.of({"w": packed})
    assert Planes.of(planes) is planes


class OneAtATime(Mapping[str, np.ndarray]):
    """Notes how many of its arrays are alive when another is asked for."""

    def __init__(self) -> None:
        self.most, self._alive = 0, 0

    def __getitem__(self, name: str) -> np.ndarray:
        outer = self

        class Array(np.ndarray):
            def __del__(self) -> None:
                if self.base is not None and self.base.size == 4200 and self.shape == (60, 70):
                    outer._alive -= 1

        self._alive += 1
        self.most = max(self.most, self._alive)
        return values_of(int(name)).view(Array)

    def __iter__(self) -> Iterator[str]:
        return map(str, range(5))

    def __len__(self) -> int:
        return 5


def test_tensors_that_are_made_on_demand_are_made_one_at_a_time() -> None:
    """A mask of a large model never exists as booleans; two at most while one replaces the other."""
    tensors = OneAtATime()
    planes = Planes.of(tensors)
    assert len(planes) == 5
    assert tensors.most <= 2


def test_the_smallest_form_is_the_same_mask() -> None:
    """Fewer bytes, the same bits and the same digest."""
    values = values_of(0, (200, 300), 0.01)
    values[:, 5:8] = True
    planes = Planes.of({"w": values})
    before, digest = planes.nbytes(), planes.digest()
    planes.shrink()
    assert planes.nbytes() < before
    assert np.array_equal(planes["w"].to_bool(), values)
    assert Planes(planes.coded()).digest() == digest


def test_the_digest_is_that_of_names_shapes_and_bits() -> None:
    """In the order of names, whatever the order of the mapping."""
    a, b = PackedBits.from_bool(values_of(0)), PackedBits.from_bool(values_of(1, (7,), 0.5))
    expected = hashlib.sha256(b"a|[60, 70]|" + a.data.tobytes() + b"b|[7]|" + b.data.tobytes()).hexdigest()
    assert Planes.of({"b": b, "a": a}).digest() == expected


def test_a_damaged_form_is_noticed_when_it_is_read() -> None:
    """By its name."""
    planes = Planes.of({"w": values_of(0)})
    coded = planes.coded()["w"]
    wrong = Planes({"w": Coded(coded.entry, {"rice": np.zeros_like(coded.parts["rice"])})})
    for read in (wrong.digest, lambda: wrong["w"], lambda: wrong.tensor("w")):
        with pytest.raises(CoreMaskFormatError, match="'w' is damaged"):
            read()


def test_they_can_be_copied_restricted_and_sent() -> None:
    """To other processes, although what is decoded stays here."""
    planes = Planes.of({"a": values_of(0), "b": values_of(1), "c": values_of(2)})
    held = planes["a"]
    for copied in (pickle.loads(pickle.dumps(planes)), copy.copy(planes)):  # noqa: S301 its own bytes
        assert copied.digest() == planes.digest()
    assert np.array_equal(pickle.loads(pickle.dumps(held)).data, held.data)  # noqa: S301 its own bytes
    assert list(planes.restricted_to({"c", "a", "x"})) == ["a", "c"]


def test_computed_bits_are_computed_each_time() -> None:
    """For the names that are there only."""
    asked: list[str] = []

    def compute(name: str) -> PackedBits:
        asked.append(name)
        return PackedBits.from_bool(values_of(0))

    computed = Computed(["a", "b"], compute)
    assert list(computed) == ["a", "b"]
    assert len(computed) == 2
    assert not asked
    assert computed["a"].count() == computed["a"].count()
    assert asked == ["a", "a"]
    with pytest.raises(KeyError):
        computed["x"]
