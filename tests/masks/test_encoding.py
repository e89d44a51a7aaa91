"""Elias-Fano coding: exact for every density, near the entropy bound, and sure of what it reads."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hf_langcore.errors import CoreMaskFormatError
from hf_langcore.masks import PackedBits
from hf_langcore.masks.encoding import MAX_SIZE, Entry, check_entry, decode, encode

Parts = dict[str, np.ndarray]

DENSITIES = st.sampled_from([0.0, 0.001, 0.01, 0.03, 0.2, 0.25, 0.26, 0.5, 0.6, 0.9, 0.999, 1.0])
SIZES = st.sampled_from([(), (0,), (1,), (7,), (8,), (9,), (3, 0, 2), (64, 64), (5, 7, 11), (2, 3, 4, 5), (40_000,)])


def random_mask(shape: tuple[int, ...], density: float, seed: int = 0) -> PackedBits:
    return PackedBits.from_bool(np.asarray(np.random.default_rng(seed).random(shape) < density))


def sparse() -> tuple[Entry, Parts]:
    entry, parts = encode(random_mask((50, 100), 0.02))
    assert entry.kind == "elias-fano"
    return entry, {name: part.copy() for name, part in parts.items()}


@given(SIZES, DENSITIES, st.integers(0, 1000))
@example((1,), 1.0, 0)
@example((), 1.0, 0)
def test_round_trip(shape: tuple[int, ...], density: float, seed: int) -> None:
    """What is encoded is decoded bit for bit, and the arrays have the shapes that the entry declares."""
    mask = random_mask(shape, density, seed)
    entry, parts = encode(mask)
    decoded = decode("w", entry, parts)
    assert decoded.shape == mask.shape
    assert decoded.data.tolist() == mask.data.tolist()
    assert {name: part.shape for name, part in parts.items()} == entry.part_shapes()
    assert all(part.dtype == np.uint8 for part in parts.values())


@given(st.integers(1, 300), st.data())
def test_round_trip_of_any_set(size: int, data: st.DataObject) -> None:
    """Sets chosen by hypothesis, not by chance: runs, both ends, single entries."""
    values = np.zeros(size, dtype=bool)
    values[data.draw(st.lists(st.integers(0, size - 1)))] = True
    entry, parts = encode(PackedBits.from_bool(values))
    assert np.array_equal(decode("w", entry, parts).to_bool(), values)


def test_long_tensors_are_decoded_over_several_blocks() -> None:
    """Clusters and gaps longer than the decoder's block, and empty blocks between them."""
    values = np.zeros(3_000_000, dtype=bool)
    values[:100_000] = True
    values[2_900_000::3] = True
    values[-1] = True
    entry, parts = encode(PackedBits.from_bool(values))
    assert entry.kind == "elias-fano"
    assert np.array_equal(decode("w", entry, parts).to_bool(), values)


@pytest.mark.parametrize("density", [0.01, 0.03, 0.05])
def test_size_is_near_the_entropy_bound(density: float) -> None:
    """At most a tenth above what any code needs for random masks, and far below packed bits."""
    mask = random_mask((1000, 1000), density)
    size = 8 * sum(part.nbytes for part in encode(mask)[1].values())
    share = mask.count() / mask.size
    entropy = -mask.size * (share * math.log2(share) + (1 - share) * math.log2(1 - share))
    assert size <= 1.10 * entropy
    assert size < mask.size / 2


@pytest.mark.parametrize(
    ("density", "kind", "inverted"),
    [
        (0.0, "empty", False),
        (0.1, "elias-fano", False),
        (0.4, "bits", False),
        (0.7, "bits", True),
        (0.9, "elias-fano", True),
        (1.0, "empty", True),
    ],
)
def test_the_smaller_side_is_stored(density: float, kind: str, inverted: bool) -> None:
    """Complements cost no more than masks, and extremes cost nothing."""
    entry, parts = encode(random_mask((100, 50), density))
    assert (entry.kind, entry.inverted) == (kind, inverted)
    assert sum(part.nbytes for part in parts.values()) <= 5000 // 8
    assert entry.count * 2 <= entry.size


def refuse(entry: Entry, parts: Parts, problem: str) -> None:
    with pytest.raises(CoreMaskFormatError, match=f"'model.w' is damaged: .*{problem}"):
        decode("model.w", entry, parts)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"shape": (-50, -100)}, "impossible"),
        ({"shape": (MAX_SIZE, 2)}, "impossible"),
        ({"shape": (45, 100)}, "high"),
        ({"shape": (5,)}, "do not fit"),
        ({"count": -1}, "do not fit"),
        ({"count": 0}, "contradictory"),
        ({"count": 4000}, "do not fit"),
        ({"low_bits": 1}, "contradictory"),
        ({"low_bits": 0}, "contradictory"),
        ({"low_bits": -3}, "contradictory"),
        ({"kind": "bits"}, "contradictory"),
        ({"kind": "empty"}, "contradictory"),
        ({"kind": "zip"}, "no form 'zip'"),
        ({"kind": "zip", "low_bits": 0}, "no form 'zip'"),
        ({"inverted": "false"}, "inverted = 'false'"),
    ],
)
def test_contradictory_descriptions_are_refused(change: dict[str, Any], problem: str) -> None:
    """An altered header never reaches the decoder, let alone an allocation of the size that it claims."""
    entry, parts = sparse()
    refuse(replace(entry, **change), parts, problem)


def test_bits_need_some_entries() -> None:
    """A dense form that says it stores nothing contradicts itself."""
    with pytest.raises(CoreMaskFormatError, match="contradictory"):
        check_entry("w", Entry((8,), 0, "bits"))


@pytest.mark.parametrize("part", ["high", "low"])
def test_arrays_of_another_form_are_refused(part: str) -> None:
    """A wrong dtype, a wrong size and a missing array each name the array."""
    entry, parts = sparse()
    refuse(entry, {**parts, part: parts[part].astype(np.int32)}, f"'{part}' should be uint8 .*int32")
    refuse(entry, {**parts, part: parts[part][..., :-1]}, f"'{part}' should be")
    refuse(entry, {name: array for name, array in parts.items() if name != part}, "holds nothing")


def test_a_wrong_number_of_positions_is_refused() -> None:
    """One position more or less than declared is noticed."""
    entry, parts = sparse()
    unary = np.unpackbits(parts["high"], bitorder="little")
    unary[np.flatnonzero(unary)[-1]] = 0
    fewer = np.packbits(unary, bitorder="little")
    refuse(entry, {**parts, "high": fewer}, f"declares {entry.count} positions and holds {entry.count - 1}")
    more = np.full_like(parts["high"], 0xFF)
    refuse(entry, {**parts, "high": more}, "more positions than it declares")


def test_positions_that_do_not_increase_are_refused() -> None:
    """Two positions with the same high part whose low parts stand the wrong way round."""
    entry, parts = encode(PackedBits.from_bool(np.isin(np.arange(64), [8, 9])))
    low = parts["low"].copy()
    low[0] ^= 0b11  # the lowest bits of both
    refuse(entry, {**parts, "low": low}, "do not increase")
    low[0] = 0
    refuse(entry, {**parts, "low": low}, "do not increase")


def test_positions_beyond_the_tensor_are_refused() -> None:
    """The last position lies in the padding that the size leaves in the last block of low bits."""
    entry, parts = encode(PackedBits.from_bool(np.arange(70) == 69))
    refuse(entry, {**parts, "low": np.ones_like(parts["low"])}, "outside the tensor")


def test_positions_that_fall_back_between_blocks_are_refused() -> None:
    """The check spans the blocks in which the unary part is decoded: the first of a block is compared too."""
    values = np.zeros(4_000_000, dtype=bool)
    values[:40_000] = True
    entry, parts = encode(PackedBits.from_bool(values))
    refuse(entry, {**parts, "low": np.zeros_like(parts["low"])}, "do not increase")


def test_bits_beyond_the_end_are_refused() -> None:
    """Stray bits after the last entry of packed bits, or after the last position of a plane."""
    entry, parts = encode(PackedBits.from_bool(np.arange(9) < 4))
    assert entry.kind == "bits"
    stray = parts["bits"].copy()
    stray[-1] ^= 0x80
    refuse(entry, {"bits": stray}, "another number")
    moved = parts["bits"].copy()
    moved[-1] |= 0x80
    moved[0] &= moved[0] - 1
    refuse(entry, {"bits": moved}, "another number")
    entry, parts = sparse()
    assert entry.count % 8
    parts["low"][0, -1] |= 0x80
    refuse(entry, parts, "beyond its last position")


@given(st.data())
def test_no_flipped_bit_goes_unnoticed_as_another_error(data: st.DataObject) -> None:
    """A flipped bit gives a mask of the declared count or a format error, never any other exception."""
    entry, parts = sparse()
    part = data.draw(st.sampled_from(sorted(parts)))
    flat = parts[part].reshape(-1)
    flat[data.draw(st.integers(0, flat.size - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        assert decode("model.w", entry, parts).count() == entry.count
    except CoreMaskFormatError as error:
        assert "'model.w' is damaged" in str(error)  # noqa: PT017 either outcome is right


def test_empty_masks_of_huge_tensors_cost_only_their_bits() -> None:
    """A declared size is not allocated as booleans before anything is known to be in it."""
    decoded = decode("w", Entry((1 << 16, 1 << 12), 0, "empty"), {})
    assert decoded.data.nbytes == 1 << 25
    assert decoded.shape == (1 << 16, 1 << 12)
